// SPDX-License-Identifier: Apache-2.0
/*
 * launch MODE PATH [ARG...]: exec PATH with exactly the given argv, in the way MODE names.
 *
 *   plain      execv
 *   thread     execv from a thread that is not the leader of its process
 *   memfd      copy PATH into a memfd, then execveat(fd, "", AT_EMPTY_PATH)
 *   fexecve    the same through fexecve(), which goes by /proc/self/fd or execveat
 *   missing    execv that is known to fail; exit code 0 if it did
 *   pad:N:LEN  execv with N arguments of LEN bytes put before the last one
 *
 * The @ at the start of an ARG is dropped. It keeps launch's own argv from being what the test is
 * about: a wrapper that names a search tool as a whole argument is itself a match.
 * With no ARG at all the new program is started with argc 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

extern char **environ;

struct target {
	const char *path;
	char **argv;
};

static void *exec_in_thread(void *data)
{
	struct target *target = data;

	execv(target->path, target->argv);
	perror("execv");
	_exit(126);
}

static int memfd_of(const char *path)
{
	int in = open(path, O_RDONLY | O_CLOEXEC);
	int out = memfd_create("launched", 0);
	ssize_t n;

	if (in < 0 || out < 0) {
		perror(path);
		exit(126);
	}
	while ((n = sendfile(out, in, NULL, 1 << 20)) > 0)
		;
	if (n < 0) {
		perror("sendfile");
		exit(126);
	}
	return out;
}

static char **padded(char **argv, long count, long length)
{
	long argc = 0, last;
	char **result, *pad;

	while (argv[argc])
		argc++;
	last = argc - 1;
	result = calloc(argc + count + 1, sizeof(*result));
	pad = malloc(length + 1);
	if (!result || !pad || argc < 1)
		exit(126);
	memset(pad, 'x', length);
	pad[length] = '\0';
	memcpy(result, argv, last * sizeof(*result));
	for (long i = 0; i < count; i++)
		result[last + i] = pad;
	result[last + count] = argv[last];
	return result;
}

int main(int argc, char **argv)
{
	struct target target;
	const char *mode;
	pthread_t thread;
	long count, length;

	if (argc < 3) {
		fprintf(stderr, "usage: launch MODE PATH [ARG...]\n");
		return 2;
	}
	mode = argv[1];
	target.path = argv[2];
	target.argv = argv + 3;
	for (char **arg = target.argv; *arg; arg++)
		if (**arg == '@')
			(*arg)++;

	if (!strcmp(mode, "thread")) {
		if (pthread_create(&thread, NULL, exec_in_thread, &target) == 0)
			pthread_join(thread, NULL);
	} else if (!strcmp(mode, "memfd")) {
		execveat(memfd_of(target.path), "", target.argv, environ, AT_EMPTY_PATH);
	} else if (!strcmp(mode, "fexecve")) {
		fexecve(memfd_of(target.path), target.argv, environ);
	} else if (!strcmp(mode, "missing")) {
		execv(target.path, target.argv);
		return errno == ENOENT ? 0 : 126;
	} else if (sscanf(mode, "pad:%ld:%ld", &count, &length) == 2) {
		execv(target.path, padded(target.argv, count, length));
	} else {
		execv(target.path, target.argv);
	}
	perror(mode);
	return 126;
}
