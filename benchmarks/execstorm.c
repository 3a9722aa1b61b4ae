// SPDX-License-Identifier: Apache-2.0
/*
 * A storm of execs: each worker does vfork + execve of one program, N times (EXECS is a number) or
 * for so many seconds (EXECS is like 60s), as fast as it can.
 *
 * usage: execstorm WORKERS EXECS EXTRA_ARGS ARG_BYTES NEEDLE_EVERY TAG PROGRAM
 *
 * argv of each exec: PROGRAM, "TAG.WORKER.NUMBER", EXTRA_ARGS arguments of ARG_BYTES bytes, and, in
 * each NEEDLE_EVERY-th (0: never), "grep" and "aws_secret_access_key". Prints one line of JSON;
 * "per_worker" says how far each counted, so that all needles are known by their TAG.WORKER.NUMBER.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 8)
		return 2;
	int workers = atoi(argv[1]), extra = atoi(argv[3]), bytes = atoi(argv[4]);
	int timed = strchr(argv[2], 's') != NULL;
	long execs = atol(argv[2]), every = atol(argv[5]), total = 0;
	char *environment[] = {"PATH=/bin", NULL};
	char *filler = malloc(bytes + 1);
	char **args = calloc(extra + 5, sizeof(*args));
	long *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long *failed = shared, *done = shared + 1;
	char id[128];
	double start;

	if (workers < 1 || workers > 500 || !filler || !args || shared == MAP_FAILED)
		return 1;
	memset(filler, 'x', bytes);
	filler[bytes] = 0;
	args[0] = argv[7];
	args[1] = id;
	for (int i = 0; i < extra; i++)
		args[2 + i] = filler;
	start = now();
	for (int worker = 0; worker < workers; worker++) {
		if (fork())
			continue;
		for (long i = 0; timed ? now() - start < execs : i < execs; i++) {
			int needle = every && i % every == 0, status = 0;
			pid_t child;

			snprintf(id, sizeof(id), "%s.%d.%ld", argv[6], worker, i);
			args[2 + extra] = needle ? "grep" : NULL;
			args[3 + extra] = needle ? "aws_secret_access_key" : NULL;
			child = vfork();
			if (child == 0) {
				execve(argv[7], args, environment);
				_exit(127);
			}
			if (child < 0 || waitpid(child, &status, 0) < 0 || status)
				__atomic_add_fetch(failed, 1, __ATOMIC_RELAXED);
			done[worker] = i + 1;
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	double seconds = now() - start;

	for (int worker = 0; worker < workers; worker++)
		total += done[worker];
	printf("{\"execs\": %ld, \"seconds\": %.4f, \"us_per_exec\": %.3f, \"failed\": %ld, ",
	       total, seconds, seconds * 1e6 / total, *failed);
	printf("\"per_worker\": [");
	for (int worker = 0; worker < workers; worker++)
		printf("%s%ld", worker ? ", " : "", done[worker]);
	printf("]}\n");
	return 0;
}
