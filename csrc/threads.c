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
#include "threads.h"

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
  MAX_THREADS = 256,
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

/* A worker, as those see it who wake it; under the pool's lock. */
typedef struct {
  pthread_t thread;
  int cpu; /* where it sleeps; -1: it is awake, or nobody knows */
#ifdef __linux__
  bool away; /* it may not wake on `cpu` */
  cpu_set_t allowed;
#endif
} bed;

static struct {
  _Alignas(CACHE_LINE) atomic_uint epoch; /* jobs begun */
  _Alignas(CACHE_LINE) atomic_int workers;
  atomic_int idle;   /* workers that watch `epoch` */
  atomic_int asleep; /* workers that wait for `begun` */
  pthread_mutex_t lock;
  pthread_cond_t begun;
  job_slot slots[SLOTS];
  bed beds[MAX_THREADS];
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

/* A worker is not to wake on the caller's core, for the caller computes on: on virtual machines Linux takes a core that
   sleeps for one that is busy, and leaves the two together for milliseconds. Of many workers only those that fell asleep
   there are sent away: the others cost more than one in their place. */
#ifdef __linux__
static void lie_down(bed *own) { own->cpu = sched_getcpu(); }

static void send_away(int workers) {
  const int here = sched_getcpu();
  for (bed *b = pool.beds; b < pool.beds + workers; b++) {
    if (b->cpu < 0 || b->away || (workers > FEW_WORKERS && b->cpu != here) ||
        pthread_getaffinity_np(b->thread, sizeof b->allowed, &b->allowed))
      continue;
    cpu_set_t others = b->allowed;
    CPU_CLR(here, &others);
    b->away = CPU_COUNT(&others) > 0 && pthread_setaffinity_np(b->thread, sizeof others, &others) == 0;
  }
}

static void get_up(bed *own) {
  if (own->away) pthread_setaffinity_np(own->thread, sizeof own->allowed, &own->allowed);
  own->away = false;
  own->cpu = -1;
}
#else
static void lie_down(bed *own) { (void)own; }
static void send_away(int workers) { (void)workers; }
static void get_up(bed *own) { (void)own; }
#endif

/* Until a job has begun after `seen` was read. */
static void await_job(unsigned seen, bed *own) {
  int64_t deadline = 0;
  atomic_fetch_add(&pool.idle, 1);
  for (int spins = 1; atomic_load(&pool.epoch) == seen && spin(&deadline); spins++)
    if (spins % SPINS_PER_YIELD == 0) sched_yield();
  atomic_fetch_sub(&pool.idle, 1);
  if (atomic_load(&pool.epoch) != seen) return;
  pthread_mutex_lock(&pool.lock);
  lie_down(own);
  atomic_fetch_add(&pool.asleep, 1); /* before the look at epoch: begin_job advances it, then looks at asleep */
  while (atomic_load(&pool.epoch) == seen) pthread_cond_wait(&pool.begun, &pool.lock);
  atomic_fetch_sub(&pool.asleep, 1);
  get_up(own);
  pthread_mutex_unlock(&pool.lock);
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
  pthread_cond_init(&pool.begun, NULL);
  for (bed *b = pool.beds; b < pool.beds + MAX_THREADS; b++) *b = (bed){.cpu = -1};
  for (job_slot *slot = pool.slots; slot < pool.slots + SLOTS; slot++) {
    atomic_store(&slot->open, 0);
    atomic_store(&slot->waiting, false);
    atomic_store(&slot->taken, false);
    pthread_cond_init(&slot->finished, NULL);
  }
}

static void start(void) {
  reset();
  pthread_atfork(NULL, NULL, reset);
}

static bool start_worker(bed *own) {
  pthread_attr_t attr;
  if (pthread_attr_init(&attr)) return false;
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  bool started = pthread_create(&own->thread, &attr, worker_main, own) == 0;
  pthread_attr_destroy(&attr);
  return started;
}

/* Sees to it that there are `wanted` workers, or as many as the system grants; returns how many there are. */
static int grow(int wanted) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start);
  if (atomic_load(&pool.workers) < wanted) {
    sigset_t all, before; /* signals are the business of the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.workers) < wanted && start_worker(&pool.beds[atomic_load(&pool.workers)]))
      atomic_fetch_add(&pool.workers, 1);
    pthread_mutex_unlock(&pool.lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  return atomic_load(&pool.workers);
}

/* The one symbol that the library exports: threadpoolctl knows it by this. */
__attribute__((visibility("default"))) int fc_pool_size(void) { return atomic_load(&pool.workers); }

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
  int wake = seats - atomic_load(&pool.idle), asleep = atomic_load(&pool.asleep);
  if (wake <= 0 || asleep == 0) return;
  pthread_mutex_lock(&pool.lock);
  send_away(atomic_load(&pool.workers));
  if (wake >= asleep)
    pthread_cond_broadcast(&pool.begun);
  else
    while (wake-- > 0) pthread_cond_signal(&pool.begun);
  pthread_mutex_unlock(&pool.lock);
}

int fc_parallel_for(int nthreads, int64_t npieces, fc_piece_fn fn, void *ctx) {
  int64_t most = npieces < MAX_THREADS ? npieces : MAX_THREADS;
  int seats = (int)(nthreads < most ? nthreads : most) - 1;
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
  atomic_bool inside[MAX_THREADS], joined[MAX_THREADS];
} trial;

static void trial_run(trial *t);

static void trial_piece(void *ctx, int64_t piece, int worker) {
  trial *t = ctx;
  bool valid = worker >= 0 && worker < t->nthreads && worker < MAX_THREADS && piece >= 0 && piece < t->npieces;
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
  if (t->ran != t->npieces) atomic_fetch_add(&t->wrong, 1);
}

int64_t fc_selftest_threads(int nthreads, int64_t npieces, int64_t work, int depth, int32_t *calls, int64_t *threads,
                            int64_t *flushed) {
  trial t = {.nthreads = nthreads > 1 ? nthreads : 1, .depth = depth, .npieces = npieces, .work = work, .calls = calls};
  trial_run(&t);
  *threads = 0;
  for (int i = 0; i < MAX_THREADS; i++) *threads += t.joined[i];
  *flushed = t.flushed;
  return t.wrong;
}
