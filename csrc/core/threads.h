/* The pool of threads. core/threads.c is the only file that knows them. */
#ifndef FASTCONV_THREADS_H
#define FASTCONV_THREADS_H

#include <stdint.h>

/* Threads that a job has at most, however many it may use. */
#define FC_MOST_THREADS 256

/* How many of so many threads a job can use: what scratch memory is sized and work is cut for. */
static inline int fc_usable_threads(int nthreads) {
  return nthreads < 1 ? 1 : nthreads > FC_MOST_THREADS ? FC_MOST_THREADS : nthreads;
}

/* One piece of a job. `worker`, in [0, nthreads), is unique among the threads that are inside the job at once: it
   indexes the thread's own part of the workspace. */
typedef void (*fc_piece_fn)(void *ctx, int64_t piece, int worker);

/* Calls fn(ctx, piece, worker) once for every piece in [0, npieces), in no order, on at most `nthreads` threads, the
   caller among them as worker 0, and returns 0 when all of them have returned. Any thread may call it at any time, also
   from inside a piece. Denormals are flushed to zero in the pieces (see fc_set_flush_denormals). */
int fc_parallel_for(int nthreads, int64_t npieces, fc_piece_fn fn, void *ctx);

#endif
