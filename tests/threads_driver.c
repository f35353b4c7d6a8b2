/* The pool without Python, for the sanitizers: several threads that begin jobs of all sizes at once, some nested. */
#define _POSIX_C_SOURCE 200809L
#include "fastconv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { CALLERS = 4, MOST_PIECES = 40 };

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

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 1000;
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++)
    if (pthread_create(&threads[i], NULL, caller, &count)) return 2;
  for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
  printf("%d failures\n", failures);
  return failures != 0;
}
