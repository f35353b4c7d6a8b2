/* The pool without Python, for the sanitizers: several threads that begin jobs of all sizes at once, some nested.
 *
 *     threads_driver [COUNT]   so many jobs on each of the threads
 *     threads_driver fork      instead, processes that fork at any moment of a few jobs, their first one among them */
#define _POSIX_C_SOURCE 200809L
#include "fastconv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLERS = 4, MOST_PIECES = 40, FORKING = 150, LIMIT_S = 60 };

static atomic_int failures;

static void trial(int nthreads, int64_t npieces, int64_t work, int depth) {
  int32_t calls[MOST_PIECES] = {0};
  int64_t threads, flushed;
  if (fc_selftest_threads(nthreads, npieces, work, depth, calls, &threads, &flushed)) failures++;
  for (int64_t i = 0; i < npieces; i++)
    if (calls[i] != 1) failures++;
}

static void *caller(void *count) {
  for (int i = 0; i < *(int *)count; i++) trial(1 + i % 8, 1 + i % (MOST_PIECES - 1), i % 5 * 20, i % 11 == 0);
  return NULL;
}

/* Begins jobs on all threads, and meanwhile calls `also`, if that is not NULL. */
static void call(int count, void (*also)(int), int argument) {
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++)
    if (pthread_create(&threads[i], NULL, caller, &count)) exit(2);
  if (also) also(argument);
  for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
}

/* Runs a process and adds its failures: that it ended with one, by a signal, or by its time limit. */
static void in_process(void (*run)(int), int argument) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(LIMIT_S);
    failures = 0;
    run(argument);
    _exit(failures != 0);
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child || status) failures++;
}

static void grandchild(int unused) {
  (void)unused;
  for (int i = 0; i < 3; i++) trial(4, 20, 50, i == 2);
}

static void fork_after(int microseconds) {
  for (volatile int i = 0; i < 100 * microseconds; i++) {
  }
  in_process(grandchild, 0);
  in_process(grandchild, 0);
}

static void child(int microseconds) { call(20, fork_after, microseconds); }

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "fork"))
    for (int i = 0; i < FORKING && !failures; i++) in_process(child, i % 50 * 4);
  else
    call(argc > 1 ? atoi(argv[1]) : 1000, NULL, 0);
  printf("%d failures\n", failures);
  return failures != 0;
}
