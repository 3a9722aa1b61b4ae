// SPDX-License-Identifier: Apache-2.0
/*
 * fork_literal: fork, then exec with string literals that no instruction has touched.
 *
 * The pages that hold them are not in memory yet when execve is entered, so a sensor that reads
 * argv there sees nothing. Linked statically and not as PIE: no relocation touches them either.
 */
#include <sys/wait.h>
#include <unistd.h>

static char *const arguments[] = {"grep", "aws_secret_access_key", "/srv/marker-fork-literal", 0};

int main(void)
{
	pid_t child = fork();

	if (child == 0) {
		execv("/bin/grep", arguments);
		_exit(126);
	}
	waitpid(child, 0, 0);
	return 0;
}
