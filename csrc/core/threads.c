/* One pool of threads, shared by all operators and all callers.

   A job lies in one of a few static slots. What is still to be had of it is one atomic word, `open`: seats (how many
   more workers may join) and pieces left. A worker joins by taking a seat and a piece in one step; from then on it
   always holds a piece: it takes the next one before it gives account of the last. So
   - a job that has ended has no pieces left, and a worker that comes late finds nothing to take: it has not touched,
     and never will touch, what the caller passed in;
   - the caller waits only for pieces that a worker holds, never for a worker that is asleep or has lost its core;
   - what a slot says of its job is read only while holding a piece of it, hence needs no further protection.

   Workers without work watch `epoch`, which every new job advances, for some microseconds, then sleep. */
#define _GNU_SOURCE
#include "core/threads.h"

#include <float.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "fastconv.h"

enum {
  SLOTS = 16, /* jobs at once; a caller that finds none free runs its pieces alone */
  CACHE_LINE = 64,
  STACK_BYTES = 2 << 20,
  FEW_WORKERS = 8,
  SPIN_NS = 30000,
  SPINS_PER_YIELD = 32
};

#define SEAT (UINT64_C(1) << 48)
#define PIECES (SEAT - 1)

typedef struct {
  _Alignas(CACHE_LINE) _Atomic uint64_t open; /* seats * SEAT + pieces left */
  fc_piece_fn fn;
  void *ctx;
  int64_t npieces;
  uint64_t fp_mode;
  _Alignas(CACHE_LINE) _Atomic int64_t done; /* pieces that workers have finished */
  atomic_bool waiting;                       /* the caller sleeps until `done` is what it needs */
  atomic_bool taken;
  pthread_cond_t finished;
} job_slot;

/* What the pool knows of a worker. While it is asleep all of this is the lock's, else its own. */
typedef struct {
  pthread_t thread;
  pthread_cond_t wake; /* `asleep` is false, and there is work */
  bool asleep;
#ifdef __linux__
  int core;            /* on which it fell asleep */
  bool restricted;     /* to all of the `allowed` cores but one */
  cpu_set_t allowed;
#endif
} worker;

static struct {
  _Alignas(CACHE_LINE) atomic_uint epoch; /* jobs begun */
  _Alignas(CACHE_LINE) atomic_int workers;
  atomic_int idle;   /* workers that watch `epoch` */
  atomic_int asleep; /* workers that wait to be woken */
  bool survives_fork;
  pthread_mutex_t lock;
  job_slot slots[SLOTS];
  worker all[FC_MOST_THREADS];
} pool;

static atomic_bool flush_denormals = true;

/* ------------------------------------------------------------------------------------------- floating-point mode */

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>

#define FP_FLUSH 0x8040u /* flush to zero, denormals are zero */
#define FP_FLAGS 0x003fu /* exceptions seen so far */

static uint64_t fp_get(void) { return _mm_getcsr(); }
static void fp_set(uint64_t mode) { _mm_setcsr((unsigned)mode); }
static void cpu_relax(void) { _mm_pause(); }

#elif defined(__aarch64__)

#define FP_FLUSH (UINT64_C(1) << 24)
#define FP_FLAGS 0

static uint64_t fp_get(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
static void fp_set(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
static void cpu_relax(void) { __asm__ volatile("yield"); }

#else

#define FP_FLUSH 0
#define FP_FLAGS 0

static uint64_t fp_get(void) { return 0; }
static void fp_set(uint64_t mode) { (void)mode; }
static void cpu_relax(void) {}

#endif

/* The mode of a job's pieces on every thread: the caller's (its rounding), with denormals flushed. */
static uint64_t fp_mode_of_job(uint64_t callers) {
  return (callers & ~(uint64_t)FP_FLAGS) | (atomic_load(&flush_denormals) ? FP_FLUSH : 0);
}

void fc_set_flush_denormals(int on) { atomic_store(&flush_denormals, on != 0); }
int fc_get_flush_denormals(void) { return atomic_load(&flush_denormals); }

/* --------------------------------------------------------------------------------------------------------- waiting */

/* Passes a short time; false once SPIN_NS are over since the first call with this `deadline`, which starts at 0. */
static bool spin(int64_t *deadline) {
  for (int i = 0; i < 4; i++) cpu_relax();
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  int64_t now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
  if (*deadline == 0) *deadline = now + SPIN_NS;
  return now < *deadline;
}

/* A worker that is woken must not start on the caller's core, since the caller goes on computing there: on virtual machines
   Linux prefers a busy core that is awake to a free one that sleeps, and leaves both threads on it for milliseconds. Where
   many are woken, this is done only for those that fell asleep on the caller's core: for all of them it would cost more
   than one wrong place. A worker may use all of its cores again as soon as it is awake. */
#ifdef __linux__
static void note_core(worker *own) { own->core = sched_getcpu(); }

static void keep_off_core(worker *w, bool many) {
  const int here = sched_getcpu();
  if ((many && w->core != here) || pthread_getaffinity_np(w->thread, sizeof w->allowed, &w->allowed)) return;
  cpu_set_t others = w->allowed;
  CPU_CLR(here, &others);
  w->restricted = CPU_COUNT(&others) > 0 && pthread_setaffinity_np(w->thread, sizeof others, &others) == 0;
}

static void restore_affinity(worker *own) {
  if (own->restricted) pthread_setaffinity_np(own->thread, sizeof own->allowed, &own->allowed);
  own->restricted = false;
}
#else
static void note_core(worker *own) { (void)own; }
static void keep_off_core(worker *w, bool many) { (void)w, (void)many; }
static void restore_affinity(worker *own) { (void)own; }
#endif

/* Wakes `count` of the workers that are asleep, or all if there are fewer; the others are left alone. */
static void wake_workers(int count) {
  worker *woken[FC_MOST_THREADS];
  int n = 0;
  pthread_mutex_lock(&pool.lock);
  const worker *end = pool.all + atomic_load(&pool.workers);
  for (worker *w = pool.all; w < end && n < count; w++) {
    if (!w->asleep) continue;
    keep_off_core(w, count > FEW_WORKERS);
    w->asleep = false;
    atomic_fetch_sub(&pool.asleep, 1);
    woken[n++] = w;
  }
  pthread_mutex_unlock(&pool.lock);
  /* Without the lock, which is the first thing that they take. */
  for (int i = 0; i < n; i++) pthread_cond_signal(&woken[i]->wake);
}

/* Until a job has begun after `seen` was read. */
static void await_job(unsigned seen, worker *own) {
  int64_t deadline = 0;
  atomic_fetch_add(&pool.idle, 1);
  for (int spins = 1; atomic_load(&pool.epoch) == seen && spin(&deadline); spins++)
    if (spins % SPINS_PER_YIELD == 0) sched_yield();
  atomic_fetch_sub(&pool.idle, 1);
  if (atomic_load(&pool.epoch) != seen) return;
  pthread_mutex_lock(&pool.lock);
  own->asleep = true;
  note_core(own);
  atomic_fetch_add(&pool.asleep, 1); /* before the look at epoch: begin_job advances it, then looks at asleep */
  while (own->asleep && atomic_load(&pool.epoch) == seen) pthread_cond_wait(&own->wake, &pool.lock);
  if (own->asleep) { /* nobody woke it: a job has begun in between */
    own->asleep = false;
    atomic_fetch_sub(&pool.asleep, 1);
  }
  pthread_mutex_unlock(&pool.lock);
  restore_affinity(own);
}

/* Until workers have finished `count` pieces. They hold them already, so spinning is short or sleeping is right. */
static void await_done(job_slot *slot, int64_t count) {
  int64_t deadline = 0;
  while (atomic_load(&slot->done) != count && spin(&deadline));
  if (atomic_load(&slot->done) == count) return;
  pthread_mutex_lock(&pool.lock);
  /* Before the look at done: a worker adds to it, then looks at waiting. An exchange, for under emulators of ARM on x86 a
     look that follows a mere store may overtake it. */
  atomic_exchange(&slot->waiting, true);
  while (atomic_load(&slot->done) != count) pthread_cond_wait(&slot->finished, &pool.lock);
  atomic_store(&slot->waiting, false);
  pthread_mutex_unlock(&pool.lock);
}

/* ---------------------------------------------------------------------------------------------------------- pieces */

/* Takes a piece, and with it `seats` (0 or 1) seats, whose number goes to *seat; -1 where there is none to be had. */
static int64_t take(job_slot *slot, int seats, int *seat) {
  uint64_t open = atomic_load(&slot->open);
  do {
    if ((open & PIECES) == 0 || open / SEAT < (unsigned)seats) return -1;
  } while (!atomic_compare_exchange_weak(&slot->open, &open, open - 1 - (unsigned)seats * SEAT));
  *seat = (int)(open / SEAT);
  return slot->npieces - (int64_t)(open & PIECES);
}

/* Runs `piece` and all that can be had after it; returns how many. */
static int64_t run_from(job_slot *slot, int64_t piece, int worker) {
  int64_t count = 0;
  for (int unused; piece >= 0; piece = take(slot, 0, &unused), count++) slot->fn(slot->ctx, piece, worker);
  return count;
}

static bool help(job_slot *slot) {
  int worker;
  int64_t piece = take(slot, 1, &worker);
  if (piece < 0) return false;
  uint64_t mine = fp_get();
  fp_set(slot->fp_mode);
  int64_t count = run_from(slot, piece, worker);
  fp_set(mine);
  atomic_fetch_add(&slot->done, count);
  /* The job may be over by now, and the slot another's: to wake that one for nothing does no harm. */
  if (atomic_load(&slot->waiting)) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_signal(&slot->finished);
    pthread_mutex_unlock(&pool.lock);
  }
  return true;
}

static void *worker_main(void *own) {
  for (;;) {
    unsigned seen = atomic_load(&pool.epoch);
    bool found = false;
    for (int i = 0; i < SLOTS; i++) found |= help(&pool.slots[i]);
    if (!found) await_job(seen, own);
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------ pool */

/* The state before the first job, and again in a forked child: the threads stayed in the parent, whatever they did. */
static void reset(void) {
  atomic_store(&pool.workers, 0);
  atomic_store(&pool.idle, 0);
  atomic_store(&pool.asleep, 0);
  pthread_mutex_init(&pool.lock, NULL);
  for (worker *w = pool.all; w < pool.all + FC_MOST_THREADS; w++) {
    *w = (worker){.asleep = false};
    pthread_cond_init(&w->wake, NULL);
  }
  for (job_slot *slot = pool.slots; slot < pool.slots + SLOTS; slot++) {
    atomic_store(&slot->open, 0);
    atomic_store(&slot->waiting, false);
    atomic_store(&slot->taken, false);
    pthread_cond_init(&slot->finished, NULL);
  }
}

/* When the library is loaded, and not in the first call: no other thread can be inside of it yet, so that no fork finds this
   half done. */
__attribute__((constructor)) static void start(void) {
  reset();
  pool.survives_fork = pthread_atfork(NULL, NULL, reset) == 0;
}

static bool start_worker(worker *own) {
  pthread_attr_t attr;
  if (pthread_attr_init(&attr)) return false;
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  bool started = pthread_create(&own->thread, &attr, worker_main, own) == 0;
  pthread_attr_destroy(&attr);
  return started;
}

/* Blocks the signals that others send, which are the business of the program's own threads. Those that an instruction
   raises stay: blocked, they would end the process without a word to its handler (Python's faulthandler). */
static void block_signals(sigset_t *before) {
  static const int raised[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  sigset_t all;
  sigfillset(&all);
  for (size_t i = 0; i < sizeof raised / sizeof *raised; i++) sigdelset(&all, raised[i]);
  pthread_sigmask(SIG_SETMASK, &all, before);
}

/* Sees to it that there are `wanted` workers, or as many as the system grants; returns how many there are. */
static int grow(int wanted) {
  if (atomic_load(&pool.workers) < wanted && pool.survives_fork) {
    sigset_t before; /* a new thread has the mask of the one that starts it */
    block_signals(&before);
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.workers) < wanted && start_worker(&pool.all[atomic_load(&pool.workers)]))
      atomic_fetch_add(&pool.workers, 1);
    pthread_mutex_unlock(&pool.lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  return atomic_load(&pool.workers);
}

/* threadpoolctl knows the library by this. */
int fc_worker_count(void) { return atomic_load(&pool.workers); }

/* A slot of one's own, or NULL. */
static job_slot *take_slot(void) {
  for (job_slot *slot = pool.slots; slot < pool.slots + SLOTS; slot++)
    if (!atomic_load_explicit(&slot->taken, memory_order_relaxed) && !atomic_exchange(&slot->taken, true)) return slot;
  return NULL;
}

/* Opens the slot's job to the workers, and wakes as many as it has seats for beyond those that are awake. */
static void begin_job(job_slot *slot, int seats) {
  atomic_store(&slot->open, (uint64_t)seats * SEAT + (uint64_t)slot->npieces);
  atomic_fetch_add(&pool.epoch, 1);
  int wake = seats - atomic_load(&pool.idle);
  if (wake > 0 && atomic_load(&pool.asleep) > 0) wake_workers(wake);
}

int fc_parallel_for(int nthreads, int64_t npieces, fc_piece_fn fn, void *ctx) {
  nthreads = fc_usable_threads(nthreads);
  const int seats = npieces > nthreads ? nthreads - 1 : npieces > 1 ? (int)npieces - 1 : 0;
  uint64_t callers = fp_get(), mode = fp_mode_of_job(callers);
  fp_set(mode);
  bool shared = seats > 0 && (uint64_t)npieces <= PIECES && grow(seats) > 0;
  job_slot *slot = shared ? take_slot() : NULL;
  if (slot == NULL) {
    for (int64_t piece = 0; piece < npieces; piece++) fn(ctx, piece, 0);
  } else {
    slot->fn = fn;
    slot->ctx = ctx;
    slot->npieces = npieces;
    slot->fp_mode = mode;
    atomic_store(&slot->done, 0);
    begin_job(slot, seats);
    int unused;
    int64_t mine = run_from(slot, take(slot, 0, &unused), 0);
    await_done(slot, npieces - mine);
    atomic_store(&slot->taken, false);
  }
  fp_set(callers);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------- self-test */

typedef struct {
  int nthreads, depth;
  int64_t npieces, work;
  int32_t *calls;
  _Atomic int64_t ran, wrong, flushed;
  atomic_bool inside[FC_MOST_THREADS], joined[FC_MOST_THREADS];
} trial;

static void trial_run(trial *t);

static void trial_piece(void *ctx, int64_t piece, int worker) {
  trial *t = ctx;
  bool valid = worker >= 0 && worker < t->nthreads && piece >= 0 && piece < t->npieces;
  if (!valid || atomic_exchange(&t->inside[worker], true)) {
    atomic_fetch_add(&t->wrong, 1);
    return;
  }
  volatile double smallest = DBL_MIN;
  for (int64_t i = 0; i < t->work; i++) smallest = smallest * 1.0;
  if (smallest * 0.5 == 0) atomic_fetch_add(&t->flushed, 1);
  if (t->calls) t->calls[piece]++;
  if (t->depth > 0) {
    trial inner = {.nthreads = t->nthreads, .depth = t->depth - 1, .npieces = t->npieces, .work = t->work};
    trial_run(&inner);
    atomic_fetch_add(&t->wrong, inner.wrong);
  }
  atomic_fetch_add(&t->ran, 1);
  atomic_store(&t->joined[worker], true);
  atomic_store(&t->inside[worker], false);
}

static void trial_run(trial *t) {
  fc_parallel_for(t->nthreads, t->npieces, trial_piece, t);
  if (t->ran != (t->npieces > 0 ? t->npieces : 0)) atomic_fetch_add(&t->wrong, 1);
}

int64_t fc_selftest_threads(int nthreads, int64_t npieces, int64_t work, int depth, int32_t *calls, int64_t *threads,
                            int64_t *flushed) {
  trial t = {.nthreads = fc_usable_threads(nthreads), .depth = depth, .npieces = npieces, .work = work, .calls = calls};
  trial_run(&t);
  int64_t joined = 0;
  for (int i = 0; i < FC_MOST_THREADS; i++) joined += t.joined[i];
  if (threads) *threads = joined;
  if (flushed) *flushed = t.flushed;
  return t.wrong;
}
