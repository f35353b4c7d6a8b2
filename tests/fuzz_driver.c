/* The C interface at random: descriptions of every operation, right ones and wrong ones with numbers from all of int64, those at
 * its borders preferred. Whatever is asked, a status must come back: in time, in memory that is in proportion to the arrays,
 * and without an access outside of them. What is accepted and small is run on arrays of exactly the extent that the strides speak
 * of, and compared with plain loops. For AddressSanitizer and UndefinedBehaviorSanitizer:
 *
 *     cc -std=gnu11 -O1 -fsanitize=address,undefined -Icsrc $(find csrc -name "*.c") tests/fuzz_driver.c -lm -pthread \
 *        -o fuzz_driver -Wl,--wrap=malloc,--wrap=calloc
 *     ./fuzz_driver [SECONDS [FIRST [COUNT]]]
 *
 * A case is made of its number alone. Those from FIRST on run until the time is over or COUNT of them are done; failures are
 * printed with their numbers, and `./fuzz_driver 60 NUMBER 1` repeats one and prints its description. Cases run in a process
 * of their own, so that one that ends it is a failure like others. */
#define _GNU_SOURCE
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fastconv.h"
#include "losses.h"
#include "padding.h"

enum {
  MOST_FAILURES = 30,
  CPU_SECONDS = 10,        /* a case; of all threads, so that a busy machine is none */
  WALL_SECONDS = 120,
  MOST_ELEMENTS = 1 << 16, /* of an array that is run on */
  MOST_WORK = 1 << 20,     /* multiply-adds of what is compared */
};

#define MEMORY_AT_ALL (INT64_C(1) << 30)

/* What the process that runs the cases tells the one that watches. */
static struct {
  int64_t number, failures, cases, accepted, compared;
  const char *operation;
} *shared;

static int verbose;

static void fail(const char *format, ...) {
  shared->failures++;
  printf("case %lld, %s: ", (long long)shared->number, shared->operation);
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  fflush(stdout);
}

/* ------------------------------------------------------------------------------------------------------ memory */

/* What the library allocates, of which one in a while is refused. */
static int watching;
static int64_t allocated, refused_at;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static int granted(size_t count, size_t size) {
  size_t bytes;
  if (!watching) return 1;
  if (__builtin_mul_overflow(count, size, &bytes) || bytes > MEMORY_AT_ALL) bytes = MEMORY_AT_ALL;
  allocated += (int64_t)bytes;
  return allocated < MEMORY_AT_ALL && --refused_at != 0;
}

void *__wrap_malloc(size_t size) { return granted(1, size) ? __real_malloc(size) : 0; }
void *__wrap_calloc(size_t count, size_t size) { return granted(count, size) ? __real_calloc(count, size) : 0; }

static void watch(int64_t refuse) {
  watching = 1;
  allocated = 0;
  refused_at = refuse;
}

static void *allocate(size_t bytes) {
  void *p = malloc(bytes ? bytes : 1);
  if (p) return p;
  printf("not enough memory for the tests\n");
  exit(2);
}

/* ------------------------------------------------------------------------------------------------- random numbers */

static uint64_t state;

static uint64_t random64(void) {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* From low to high. */
static int64_t between(int64_t low, int64_t high) {
  return (int64_t)((uint64_t)low + random64() % ((uint64_t)high - (uint64_t)low + 1));
}

static int one_in(int n) { return between(1, n) == 1; }

/* Numbers at which something may overflow, and all others. */
static int64_t border(void) {
  if (one_in(4)) return between(-3, 3);
  if (one_in(8)) return (int64_t)random64();
  const uint64_t power = (UINT64_C(1) << between(0, 63)) + (uint64_t)between(-1, 1);
  return (int64_t)(one_in(3) ? -power : power);
}

static int border_int(void) { return (int)(int32_t)border(); }

/* A number of threads: mostly one to use, else any. */
static int threads(void) { return one_in(6) ? border_int() : (int)between(1, 4); }

static int usable_isa(void) {
  int isa;
  do isa = (int)between(0, fc_isa_count() - 1);
  while (fc_isa_reason(isa));
  return isa;
}

/* Those that there are kernels for. */
static fc_types some_types(void) {
  const int type = (int)between(FC_F32, FC_F64);
  return (fc_types){type, type, type, type};
}

static int bytes_of(const fc_types *types) { return types->x == FC_F32 ? 4 : 8; }

/* Makes a few of a description's numbers wrong, or at least unusual; its types such as there are no kernels for, or none. */
static void spoil(fc_types *types, int *ints, int64_t nints, int64_t *numbers, int64_t count) {
  if (one_in(8)) {
    int *const type[] = {&types->x, &types->w, &types->acc, &types->y};
    for (int i = 0; i < 4; i++)
      if (one_in(2)) *type[i] = one_in(8) ? border_int() : (int)between(FC_F32, FC_I32);
    return;
  }
  for (int64_t i = between(1, 3); i > 0; i--)
    if (one_in(6))
      ints[between(0, nints - 1)] = border_int();
    else
      numbers[between(0, count - 1)] = border();
}

static void print(const char *name, const int64_t *numbers, int64_t count) {
  if (!verbose) return;
  printf("%s:", name);
  for (int64_t i = 0; i < count; i++) printf(" %lld", (long long)numbers[i]);
  printf("\n");
  fflush(stdout);
}

static void print_types(const fc_types *t) { print("types x w acc y", (int64_t[]){t->x, t->w, t->acc, t->y}, 4); }

/* What a planner has to say of types, before it looks at anything else. */
static void check_types(const fc_types *types, int status) {
  const int type[] = {types->x, types->w, types->acc, types->y};
  int wanted = FC_OK;
  for (int i = 0; i < 4; i++) {
    if (type[i] < FC_F32 || type[i] > FC_I32)
      wanted = FC_ERROR_ARGUMENT;
    else if (!wanted && (type[i] > FC_F64 || type[i] != type[0]))
      wanted = FC_ERROR_UNSUPPORTED;
  }
  if (wanted ? status != wanted : status == FC_ERROR_UNSUPPORTED) fail("status %d", status);
}

/* ------------------------------------------------------------------------------------------------------- arrays */

enum { DIMS = 5 };

/* An array of numbers or indices, of exactly the extent of its elements. */
typedef struct array {
  int64_t sizes[DIMS], strides[DIMS];
  int64_t es, extent;  /* bytes of an element; elements from the lowest to the highest in memory */
  char *memory, *first;
} array;

/* Elements from the lowest to the highest; -1: too many to make. */
static int64_t extent_of(const int64_t sizes[DIMS], const int64_t strides[DIMS], int64_t *below) {
  __int128 low = 0, high = 0;
  for (int i = 0; i < DIMS; i++) {
    const __int128 reach = ((__int128)sizes[i] - 1) * (sizes[i] == 1 ? 0 : strides[i]);
    *(reach < 0 ? &low : &high) += reach;
  }
  if (high - low >= MOST_ELEMENTS) return -1;
  *below = (int64_t)-low;
  return (int64_t)(high - low + 1);
}

static double get(const array *a, int64_t i) { return a->es == 4 ? ((float *)a->memory)[i] : ((double *)a->memory)[i]; }

static void set(array *a, int64_t i, double v) {
  if (a->es == 4)
    ((float *)a->memory)[i] = (float)v;
  else
    ((double *)a->memory)[i] = v;
}

static int64_t place_of(const array *a, const int64_t at[DIMS]) {
  int64_t place = (a->first - a->memory) / a->es;
  for (int i = 0; i < DIMS; i++) place += a->sizes[i] == 1 ? 0 : at[i] * a->strides[i];
  return place;
}

static int64_t elements(const array *a) {
  int64_t n = 1;
  for (int i = 0; i < DIMS; i++) n *= a->sizes[i];
  return n;
}

/* Where element i, counted in the order of the dimensions, lies. */
static int64_t place_at(const array *a, int64_t i) {
  int64_t at[DIMS];
  for (int k = DIMS - 1; k >= 0; k--) {
    at[k] = i % a->sizes[k];
    i /= a->sizes[k];
  }
  return place_of(a, at);
}

/* The index that element i has, in an array of them. */
static int64_t *index_at(const array *a, int64_t i) { return (int64_t *)a->memory + place_at(a, i); }

/* Elements of an array of these sizes, be they many. */
static double count(const int64_t *sizes, int dims) {
  double n = 1;
  for (int i = 0; i < dims; i++) n *= fabs((double)sizes[i]);
  return n;
}

/* Makes an array if it is small: all NaN. */
static int make(array *a, const int64_t sizes[DIMS], const int64_t strides[DIMS], int64_t es) {
  int64_t below = 0, n = 1;
  *a = (array){.es = es};
  for (int i = 0; i < DIMS; i++)
    if (sizes[i] < 0 || (n *= sizes[i] > MOST_ELEMENTS ? MOST_ELEMENTS + 1 : sizes[i]) > MOST_ELEMENTS) return 0;
  memcpy(a->sizes, sizes, sizeof a->sizes);
  memcpy(a->strides, strides, sizeof a->strides);
  a->extent = n == 0 ? 0 : extent_of(sizes, strides, &below);
  if (a->extent < 0) return 0;
  a->memory = allocate((size_t)(a->extent * es));
  a->first = a->memory + below * es;
  for (int64_t i = 0; i < a->extent; i++) set(a, i, NAN);
  return 1;
}

/* The same with small whole numbers in its elements. */
static int make_numbers(array *a, const int64_t sizes[DIMS], const int64_t strides[DIMS], int64_t es) {
  if (!make(a, sizes, strides, es)) return 0;
  for (int64_t i = elements(a) - 1; i >= 0; i--) set(a, place_at(a, i), (double)between(-3, 3));
  return 1;
}

static void done(array *a) { free(a->memory); }

/* Strides for an array of these sizes: in one of the usual orders, or in any, with gaps, running backwards; of operands also
 * the same element again and again. */
static void lay_out(const int64_t *sizes, int dims, int64_t *strides, int operand) {
  int order[DIMS];
  const int usual = (int)between(0, 3), last = dims == DIMS && usual == 1;
  for (int i = 0; i < dims; i++) order[i] = i;
  if (last)
    for (int i = 1; i < dims; i++) order[i] = i + 1 < dims ? i + 1 : 1;
  for (int i = 0; i < dims && usual > 1; i++) {
    const int j = (int)between(i, dims - 1), x = order[i];
    order[i] = order[j];
    order[j] = x;
  }
  int64_t step = usual == 3 ? between(1, 3) : 1;
  for (int i = dims - 1; i >= 0; i--) {
    const int k = order[i];
    strides[k] = step;
    step *= sizes[k];
    if (usual == 3) step += between(0, 2);
    if (usual == 3 && one_in(3)) strides[k] = -strides[k];
    if (operand && one_in(20)) strides[k] = 0;
  }
}

/* The result beside what it should be (NaN where nothing is to be written). */
static void compare(const array *result, const double *expected, double tolerance, const char *what) {
  shared->compared++;
  for (int64_t i = 0; i < result->extent; i++) {
    const double got = get(result, i), want = expected[i];
    if (isnan(want) ? isnan(got) : fabs(got - want) <= tolerance) continue;
    fail("%s: element %lld of the memory is %g, expected %g", what, (long long)i, got, want);
    return;
  }
}

/* Memory for what is expected of an array; NULL where two elements share a place: then nothing can be. */
static double *expectation(const array *a) {
  double *p = allocate((size_t)a->extent * sizeof *p);
  for (int64_t i = 0; i < a->extent; i++) p[i] = NAN;
  for (int64_t i = elements(a) - 1; i >= 0; i--) {
    double *e = p + place_at(a, i);
    if (!isnan(*e)) {
      free(p);
      return 0;
    }
    *e = 0;
  }
  return p;
}

/* Beside arrays of so many bytes this much memory is in order for each thread. */
static int proportionate(int64_t bytes, double arrays, int nthreads, const char *what) {
  const int n = nthreads < 1 ? 1 : nthreads > 256 ? 256 : nthreads;
  if (bytes >= 0 && (double)bytes <= n * (32e6 + 64 * arrays)) return 1;
  fail("%lld bytes %s of %g in arrays", (long long)bytes, what, arrays);
  return 0;
}

/* -------------------------------------------------------------------------------------------------------- plans */

/* A slot that is not NULL of these, or -1. */
static int some_slot(void *const *arrays) {
  const int slot = (int)between(0, FC_SLOTS - 1);
  return arrays[slot] ? slot : -1;
}

/* Runs a plan as a step of a program, after one that is refused for what it names. */
static int run_step(const fc_plan *plan, void *const *arrays, int nthreads) {
  void *buffers[FC_SLOTS];
  fc_step steps[2] = {{.plan = plan}};
  for (int i = 0; i < FC_SLOTS; i++) {
    const int64_t behind = between(-100, 100);
    steps[0].buffer[i] = arrays[i] ? FC_SLOTS - 1 - i : -1;
    steps[0].offset[i] = arrays[i] ? behind : border();
    buffers[FC_SLOTS - 1 - i] = arrays[i] ? (char *)arrays[i] - behind : 0;
  }
  const int64_t bytes = fc_steps_workspace(steps, 1, nthreads);
  void *workspace = allocate((size_t)bytes);
  const int32_t number = border_int();
  steps[1] = steps[0];
  if (number < -1 || number >= FC_SLOTS) {
    steps[1].buffer[between(0, FC_SLOTS - 1)] = number;
    if (fc_run_steps(steps, 2, buffers, FC_SLOTS, workspace, nthreads) != FC_ERROR_ARGUMENT) fail("runs with buffer %d", number);
  }
  const int status = fc_run_steps(steps, 1, buffers, FC_SLOTS, workspace, nthreads);
  if (fc_run_steps(steps, 1, buffers, FC_SLOTS, 0, nthreads) != FC_ERROR_ARGUMENT) fail("runs without a workspace");
  free(workspace);
  return status;
}

static int run_plan(const fc_plan *plan, void *const *arrays, int nthreads) {
  if (one_in(3)) return run_step(plan, arrays, nthreads);
  void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, arrays[FC_PACKED] != 0));
  const int status = fc_run(plan, arrays, workspace, nthreads);
  if (fc_run(plan, arrays, 0, nthreads) != FC_ERROR_ARGUMENT) fail("runs without a workspace");
  free(workspace);
  return status;
}

/* Whether a plan says what it should of threads. */
static void check_threads(const fc_plan *plan, int nthreads) {
  for (int packed = 0; packed < 2; packed++) {
    const int n = fc_plan_threads(plan, nthreads, packed);
    if (n < 1 || n > (nthreads > 1 ? nthreads : 1)) fail("%d of %d threads", n, nthreads);
  }
}

/* Whether there is a plan, after looking at what its planner says of a description that may be spoilt. */
static int accepted(const fc_plan *plan, int status, const fc_types *types, int spoilt, int nthreads) {
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (const void *)plan);
  check_types(types, status);
  if (!spoilt && status != FC_OK) fail("status %d", status);
  if (!plan) return 0;
  shared->accepted++;
  check_threads(plan, nthreads);
  return 1;
}

/* ---------------------------------------------------------------------------------------------------- activations */

static fc_act activation(void) {
  const int kind = one_in(2) ? FC_ACT_NONE : (int)between(FC_ACT_NONE, one_in(4) ? FC_ACT_ERF : FC_ACT_GELU);
  return (fc_act){kind, kind == FC_ACT_LEAKY_RELU ? 0.5 : kind == FC_ACT_CLIP ? -4 : 0, kind == FC_ACT_CLIP ? 9 : 0};
}

/* Those behind are run, but not compared. */
static int activates(const fc_act *act) { return act->kind <= FC_ACT_GELU; }

static double activate(const fc_act *act, double v) {
  switch (act->kind) {
  case FC_ACT_RELU: return v > 0 ? v : 0;
  case FC_ACT_LEAKY_RELU: return v > 0 ? v : v * act->p0;
  case FC_ACT_CLIP: return fmin(act->p1, fmax(act->p0, v));
  case FC_ACT_SIGMOID: return 1 / (1 + exp(-v));
  case FC_ACT_TANH: return tanh(v);
  case FC_ACT_SILU: return v / (1 + exp(-v));
  case FC_ACT_HARDSWISH: return v * (v < -3 ? 0 : v > 3 ? 6 : v + 3) / 6;
  case FC_ACT_GELU: return 0.5 * v * (1 + erf(v / sqrt(2)));
  default: return v;
  }
}

/* Finishes sums that are expected; returns how far a result may be from them, a number of roundings of the largest: none
 * where numbers are whole, but of most activations two units of the last place, which are up to four. */
static double finish(const array *result, double *expected, const fc_act *act, double roundings) {
  const double precision = result->es == 4 ? 6e-8 : 1.1e-16;
  double largest = 1;
  for (int64_t i = 0; i < result->extent; i++) {
    largest = fmax(largest, fabs(expected[i]));
    if (!isnan(expected[i])) expected[i] = activate(act, expected[i]);
  }
  return precision * largest * fmax(roundings, act->kind <= FC_ACT_CLIP ? 0 : 4);
}

/* ---------------------------------------------------------------------------------------------------- convolutions */

static const int64_t *conv_numbers(const fc_conv_desc *d) { return &d->limit; }
enum { CONV_NUMBERS = (offsetof(fc_conv_desc, act) - offsetof(fc_conv_desc, limit)) / sizeof(int64_t) };

static fc_conv_desc some_conv(void) {
  fc_conv_desc d = {.types = some_types(),
                    .direction = (int)between(FC_FWD, FC_BWD_WEIGHT),
                    .isa = usable_isa(),
                    .strict = one_in(2),
                    .packed = one_in(2),
                    .algorithm = one_in(3) ? 0 : (int)between(1, fc_conv_algorithm_count()),
                    .limit = one_in(8) ? between(1, 100000) : 0,
                    .n = between(1, 3),
                    .groups = one_in(3) ? between(1, 20) : 1,
                    .icg = one_in(2) ? between(1, 4) : between(1, 20),
                    .ocg = one_in(2) ? between(1, 4) : between(1, 20)};
  const int rank = (int)between(1, 3), depthwise = d.groups > 1 && one_in(2), alike = one_in(2);
  if (depthwise) d.icg = d.ocg = 1;
  const int64_t ker = between(1, 5), stride = one_in(2) ? 1 : between(1, 3), dil = one_in(2) ? 1 : between(1, 3);
  for (int i = 0; i < 3; i++) {
    d.x_size[i] = d.y_size[i] = d.ker[i] = d.stride[i] = d.dil[i] = 1;
    if (i < 3 - rank) continue;
    d.x_size[i] = between(1, rank == 1 ? 40 : rank == 2 ? 12 : 6);
    d.ker[i] = alike ? ker : between(1, 5);
    d.stride[i] = alike ? stride : between(1, 4);
    d.dil[i] = alike ? dil : between(1, 4);
    d.pad[i] = one_in(4) ? between(-3, 6) : between(0, d.ker[i] / 2);
    const int64_t room = d.x_size[i] + 2 * d.pad[i] - d.dil[i] * (d.ker[i] - 1) - 1;
    d.y_size[i] = room >= 0 && !one_in(8) ? room / d.stride[i] + 1 : between(1, 8);
  }
  const int64_t x[DIMS] = {d.n, d.groups * d.icg, d.x_size[0], d.x_size[1], d.x_size[2]};
  const int64_t y[DIMS] = {d.n, d.groups * d.ocg, d.y_size[0], d.y_size[1], d.y_size[2]};
  const int64_t w[DIMS] = {d.groups * d.ocg, d.icg, d.ker[0], d.ker[1], d.ker[2]};
  lay_out(x, DIMS, d.x_stride, d.direction != FC_BWD_INPUT);
  lay_out(y, DIMS, d.y_stride, d.direction != FC_FWD);
  lay_out(w, DIMS, d.w_stride, d.direction != FC_BWD_WEIGHT);
  lay_out(d.direction == FC_BWD_INPUT ? x : y, DIMS, d.add_stride, 1);
  if (d.direction != FC_BWD_WEIGHT) {
    d.has_bias = one_in(3);
    d.has_add = one_in(3);
    d.act = activation();
  }
  return d;
}

/* Adds what is expected of the convolution to sums in the memory of its result. */
static void convolve(const fc_conv_desc *d, const array *x, const array *w, const array *y, double *sums) {
  const int64_t work = d->n * d->groups * d->icg * d->ocg;
  for (int64_t i = 0; i < work; i++) {
    const int64_t c = i % d->icg, o = i / d->icg % d->ocg, g = i / d->icg / d->ocg % d->groups,
                  n = i / d->icg / d->ocg / d->groups;
    for (int64_t p = 0; p < d->y_size[0] * d->y_size[1] * d->y_size[2]; p++)
      for (int64_t t = 0; t < d->ker[0] * d->ker[1] * d->ker[2]; t++) {
        const int64_t out[3] = {p / d->y_size[2] / d->y_size[1], p / d->y_size[2] % d->y_size[1], p % d->y_size[2]};
        const int64_t tap[3] = {t / d->ker[2] / d->ker[1], t / d->ker[2] % d->ker[1], t % d->ker[2]};
        int64_t in[3];
        int inside = 1;
        for (int k = 0; k < 3; k++) {
          const __int128 at = (__int128)out[k] * d->stride[k] - d->pad[k] + (__int128)tap[k] * d->dil[k];
          inside &= at >= 0 && at < d->x_size[k];
          in[k] = (int64_t)at;
        }
        if (!inside) continue;
        const int64_t xi = place_of(x, (int64_t[]){n, g * d->icg + c, in[0], in[1], in[2]});
        const int64_t yi = place_of(y, (int64_t[]){n, g * d->ocg + o, out[0], out[1], out[2]});
        const int64_t wi = place_of(w, (int64_t[]){g * d->ocg + o, c, tap[0], tap[1], tap[2]});
        if (d->direction == FC_FWD)
          sums[yi] += get(x, xi) * get(w, wi);
        else if (d->direction == FC_BWD_INPUT)
          sums[xi] += get(y, yi) * get(w, wi);
        else
          sums[wi] += get(y, yi) * get(x, xi);
      }
  }
}

static void run_conv(const fc_conv_desc *d, const fc_plan *plan, int nthreads) {
  const int64_t x_sizes[DIMS] = {d->n, d->groups * d->icg, d->x_size[0], d->x_size[1], d->x_size[2]};
  const int64_t y_sizes[DIMS] = {d->n, d->groups * d->ocg, d->y_size[0], d->y_size[1], d->y_size[2]};
  const int64_t w_sizes[DIMS] = {d->groups * d->ocg, d->icg, d->ker[0], d->ker[1], d->ker[2]};
  const int back = d->direction == FC_BWD_INPUT, weight = d->direction == FC_BWD_WEIGHT;
  const int64_t *r_sizes = weight ? w_sizes
                           : back ? x_sizes
                                  : y_sizes,
                *r_strides = weight ? d->w_stride
                             : back ? d->x_stride
                                    : d->y_stride;
  const int64_t b_sizes[DIMS] = {1, r_sizes[1], 1, 1, 1}, b_strides[DIMS] = {0, 1, 0, 0, 0}, es = bytes_of(&d->types);
  const double arrays = (double)es * (count(x_sizes, DIMS) + count(y_sizes, DIMS) + count(w_sizes, DIMS));
  const int64_t packed_bytes = fc_plan_packed_bytes(plan);
  if (!proportionate(packed_bytes, arrays, 1, "of packed weights")) return;
  for (int packed = 0; packed <= (packed_bytes > 0); packed++)
    if (!proportionate(fc_plan_workspace(plan, nthreads, packed), arrays, nthreads, "of scratch")) return;
  if ((double)d->n * d->groups * d->icg * d->ocg *
          ((double)d->y_size[0] * d->y_size[1] * d->y_size[2] * d->ker[0] * d->ker[1] * d->ker[2]) >
      MOST_WORK)
    return;
  array x = {0}, y = {0}, w = {0}, add = {0}, bias = {0}, result = {0};
  double *expected = 0;
  if (!make_numbers(&x, x_sizes, d->x_stride, es) || !make_numbers(&y, y_sizes, d->y_stride, es) ||
      !make_numbers(&w, w_sizes, d->w_stride, es) || (d->has_add && !make_numbers(&add, r_sizes, d->add_stride, es)) ||
      (d->has_bias && !make_numbers(&bias, b_sizes, b_strides, es)))
    goto end;
  if (!make(&result, r_sizes, r_strides, es) || !(expected = expectation(&result))) goto end;
  convolve(d, &x, &w, &y, expected);
  for (int64_t i = 0, per = r_sizes[2] * r_sizes[3] * r_sizes[4]; i < elements(&result); i++) {
    const int64_t e = place_at(&result, i);
    if (d->has_add) expected[e] += get(&add, place_at(&add, i));
    if (d->has_bias) expected[e] += get(&bias, i / per % r_sizes[1]);
  }
  fc_conv_desc direct = *d;
  direct.strict = 1;
  direct.algorithm = 0;
  int mixed = 0;
  for (int i = 0; i < fc_conv_algorithm_count(); i++)
    if (!strcmp(fc_conv_algorithm_name(i), fc_plan_algorithm(plan)) && !fc_conv_algorithm_refusal(d, i))
      mixed |= fc_conv_algorithm_refusal(&direct, i) != 0;
  const double tolerance = finish(&result, expected, &d->act, mixed ? 500 : 0);
  for (int packed = 0; packed <= (packed_bytes > 0); packed++) {
    void *weights = packed ? allocate((size_t)packed_bytes) : 0;
    for (int64_t i = 0; i < result.extent; i++) set(&result, i, NAN);
    if (packed && fc_plan_pack(plan, w.first, weights, nthreads) != FC_OK) fail("packing failed");
    void *given[FC_SLOTS] = {[FC_X] = x.first,       [FC_W] = packed ? 0 : w.first, [FC_Y] = y.first,
                             [FC_BIAS] = bias.first, [FC_ADD] = add.first,          [FC_PACKED] = weights};
    given[weight ? FC_W : back ? FC_X : FC_Y] = result.first;
    const int missing = one_in(8) ? some_slot(given) : -1, lacks = missing >= 0;
    if (lacks) given[missing] = 0; /* is refused before any work starts */
    const int status = run_plan(plan, given, nthreads);
    if (lacks && status != FC_ERROR_ARGUMENT) fail("without array %d: status %d", missing, status);
    if (!lacks && status != FC_OK) fail("status %d", status);
    if (!lacks && activates(&d->act)) compare(&result, expected, tolerance, fc_plan_algorithm(plan));
    free(weights);
  }
end:
  free(expected);
  array *all[] = {&x, &y, &w, &add, &bias, &result};
  for (int i = 0; i < 6; i++) done(all[i]);
}

static void conv_case(void) {
  fc_conv_desc d = some_conv();
  const int spoilt = one_in(2), nthreads = threads(), starved = one_in(16);
  if (spoilt) spoil(&d.types, &d.direction, 7, &d.limit, CONV_NUMBERS);
  if (spoilt && one_in(20)) d.act.kind = border_int();
  print_types(&d.types);
  print("conv direction isa has_bias has_add strict packed algorithm act threads",
        (int64_t[]){d.direction, d.isa, d.has_bias, d.has_add, d.strict, d.packed, d.algorithm, d.act.kind, nthreads}, 9);
  print("limit n groups icg ocg, in out ker stride pad dil, x y w add strides", conv_numbers(&d), CONV_NUMBERS);
  if (d.algorithm > 0) fc_conv_algorithm_refusal(&d, d.algorithm - 1);
  fc_plan *plan = (fc_plan *)&d; /* is to be set, whatever happens */
  watch(starved ? between(1, 4) : 0);
  const int status = fc_plan_conv(&d, &plan);
  watching = 0;
  char text[4096] = "", *short_text = allocate(8);
  const int explained = fc_conv_explain(&d, text, sizeof text), shortly = fc_conv_explain(&d, short_text, 8);
  if (verbose) printf("status %d, %s\n", status, text);
  if (!starved && (explained != status || shortly != status)) fail("status %d explained by %d, %d", status, explained, shortly);
  if (status == FC_OK && (strncmp(text, short_text, 7) || !strstr(text, fc_plan_algorithm(plan)))) fail("explained by %s", text);
  free(short_text);
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (void *)plan);
  if (!starved) check_types(&d.types, status);
  if (status < FC_OK || status > FC_ERROR_UNSUPPORTED) fail("status %d", status);
  const int64_t channels[3][3] = {{d.n, d.groups, d.icg}, {d.n, d.groups, d.ocg}, {d.groups, d.icg, d.ocg}};
  const double arrays = count(channels[0], 3) * count(d.x_size, 3) + count(channels[1], 3) * count(d.y_size, 3) +
                        count(channels[2], 3) * count(d.ker, 3);
  if (status != FC_ERROR_ARGUMENT) proportionate(allocated, 8 * arrays, 1, "for a plan");
  if (!spoilt && !starved && status != FC_OK && !(status == FC_ERROR_REFUSED && d.algorithm)) fail("status %d", status);
  if (!plan) return;
  shared->accepted++;
  check_threads(plan, nthreads);
  run_conv(&d, plan, nthreads);
  fc_plan_destroy(plan);
}

/* -------------------------------------------------------------------------------------------------------- products */

enum { GEMM_NUMBERS = (offsetof(fc_gemm_desc, alpha) - offsetof(fc_gemm_desc, batch)) / sizeof(int64_t) };

static fc_gemm_desc some_gemm(void) {
  fc_gemm_desc d = {.types = some_types(),
                    .isa = usable_isa(),
                    .has_bias = one_in(2),
                    .has_c = one_in(2),
                    .batch = one_in(3) ? between(1, 4) : 1,
                    .m = one_in(2) ? between(1, 30) : between(1, one_in(6) ? 1800 : 70),
                    .n = one_in(2) ? between(1, 30) : between(1, one_in(6) ? 1800 : 70),
                    .k = one_in(8)   ? 0
                         : one_in(8) ? between(1, 3000)
                                     : between(1, 50),
                    .alpha = one_in(2) ? 1 : (double)between(-2, 2),
                    .beta = one_in(2) ? 1 : (double)between(-3, 2),
                    .act = activation()};
  lay_out((int64_t[]){d.batch, d.m, d.k ? d.k : 1}, 3, d.a_stride, 1);
  lay_out((int64_t[]){d.batch, d.k ? d.k : 1, d.n}, 3, d.b_stride, 1);
  lay_out((int64_t[]){d.batch, d.m, d.n}, 3, d.c_stride, 1);
  lay_out((int64_t[]){d.batch, d.m, d.n}, 3, d.out_stride, 0);
  return d;
}

/* Sizes or strides over three dimensions as ones over all. */
static const int64_t *widened(int64_t to[DIMS], int64_t first, int64_t second, int64_t third) {
  const int64_t all[DIMS] = {first, second, third, 1, 1};
  return memcpy(to, all, sizeof all);
}

static void run_gemm(const fc_gemm_desc *given, const fc_plan *plan, int nthreads) {
  const fc_gemm_desc d = *given;
  const int64_t bytes = fc_plan_workspace(plan, nthreads, 0), es = bytes_of(&d.types);
  if (!proportionate(bytes, (double)es * d.batch * ((double)d.m * d.k + (double)d.k * d.n + (double)d.m * d.n), nthreads,
                     "of scratch"))
    return;
  if ((double)d.batch * d.m * d.n * (d.k + 1) > MOST_WORK) return;
  int64_t s[DIMS], t[DIMS];
  array a = {0}, b = {0}, c = {0}, bias = {0}, out = {0};
  double *expected = 0;
  if (!make_numbers(&a, widened(s, d.batch, d.m, d.k), widened(t, d.a_stride[0], d.a_stride[1], d.a_stride[2]), es) ||
      !make_numbers(&b, widened(s, d.batch, d.k, d.n), widened(t, d.b_stride[0], d.b_stride[1], d.b_stride[2]), es))
    goto end;
  widened(s, d.batch, d.m, d.n);
  if (d.has_c && !make_numbers(&c, s, widened(t, d.c_stride[0], d.c_stride[1], d.c_stride[2]), es)) goto end;
  if (!make(&out, s, widened(t, d.out_stride[0], d.out_stride[1], d.out_stride[2]), es) || !(expected = expectation(&out)) ||
      (d.has_bias && !make_numbers(&bias, widened(s, 1, 1, d.n), widened(t, 0, 0, 1), es)))
    goto end;
  for (int64_t i = 0; i < elements(&out); i++) {
    const int64_t x = i / d.n / d.m, y = i / d.n % d.m, z = i % d.n;
    double sum = 0;
    for (int64_t k = 0; k < d.k; k++)
      sum += get(&a, place_of(&a, (int64_t[]){x, y, k, 0, 0})) * get(&b, place_of(&b, (int64_t[]){x, k, z, 0, 0}));
    sum *= d.alpha;
    if (d.has_c) sum += d.beta * get(&c, place_at(&c, i));
    if (d.has_bias) sum += get(&bias, z);
    expected[place_at(&out, i)] = sum;
  }
  const double tolerance = finish(&out, expected, &d.act, 0);
  void *arrays[FC_SLOTS] = {
      [FC_A] = d.k ? a.first : 0, [FC_B] = d.k ? b.first : 0, [FC_BIAS] = bias.first, [FC_C] = c.first, [FC_OUT] = out.first};
  const int missing = one_in(8) ? some_slot(arrays) : -1;
  if (missing >= 0) arrays[missing] = 0;
  const int status = run_plan(plan, arrays, nthreads);
  if (missing >= 0 && status != FC_ERROR_ARGUMENT) fail("runs without array %d: status %d", missing, status);
  if (missing < 0 && status != FC_OK) fail("status %d", status);
  if (missing < 0 && activates(&d.act)) compare(&out, expected, tolerance, "gemm");
end:
  free(expected);
  array *all[] = {&a, &b, &c, &bias, &out};
  for (int i = 0; i < 5; i++) done(all[i]);
}

static void gemm_case(void) {
  fc_gemm_desc d = some_gemm();
  const int spoilt = one_in(2), nthreads = threads(), starved = one_in(16);
  if (spoilt) spoil(&d.types, &d.isa, 3, &d.batch, GEMM_NUMBERS);
  if (spoilt && one_in(20)) d.act.kind = border_int();
  print_types(&d.types);
  print("gemm isa has_bias has_c act threads", (int64_t[]){d.isa, d.has_bias, d.has_c, d.act.kind, nthreads}, 5);
  print("batch m n k, a b c out strides", &d.batch, GEMM_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  watch(starved ? 1 : 0);
  const int status = fc_plan_gemm(&d, &plan);
  watching = 0;
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (void *)plan);
  if (!starved) check_types(&d.types, status);
  if (!spoilt && status != (starved ? FC_ERROR_MEMORY : FC_OK)) fail("status %d", status);
  if (!plan) return;
  shared->accepted++;
  check_threads(plan, nthreads);
  run_gemm(&d, plan, nthreads);
  fc_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------------- poolings */

enum { POOL_NUMBERS = (offsetof(fc_pool_desc, divisor) - offsetof(fc_pool_desc, n)) / sizeof(int64_t) };

/* Tap t of window o along dimension i: is there one, and which position does it read? */
static int tap_of(const fc_pool_desc *d, int i, int64_t o, int64_t t, int64_t *position) {
  if (d->adaptive) {
    *position = o * d->x_size[i] / d->y_size[i] + t;
    return *position * d->y_size[i] < (o + 1) * d->x_size[i];
  }
  const __int128 at = (__int128)o * d->stride[i] - d->pad[i] + (__int128)t * d->dil[i];
  *position = at < 0 || at >= d->x_size[i] ? -1 : (int64_t)at;
  return t < d->ker[i] && at < (__int128)d->x_size[i] + d->pad_end[i];
}

/* What an average divides by along a dimension; how many positions of a window are inside goes to *inside. */
static int64_t count_of(const fc_pool_desc *d, int i, int64_t o, int64_t *inside) {
  int64_t count = 0, position;
  *inside = 0;
  for (int64_t t = 0; tap_of(d, i, o, t, &position); t++) {
    *inside += position >= 0;
    count += position >= 0 || d->count_pad;
  }
  return count;
}

static fc_pool_desc some_pool(int *holds) {
  fc_pool_desc d = {.kind = (int)between(FC_MAX, FC_SUM),
                    .direction = (int)between(FC_FWD, FC_BWD_INPUT),
                    .types = some_types(),
                    .isa = usable_isa(),
                    .adaptive = one_in(4),
                    .count_pad = one_in(2),
                    .n = between(1, 3),
                    .c = one_in(2) ? between(1, 4) : between(1, 40),
                    .divisor = one_in(8) ? (double)between(1, 4) : 0};
  d.indices = d.kind == FC_MAX && one_in(2);
  const int rank = (int)between(1, 3), alike = one_in(2);
  const int64_t ker = between(1, 4), stride = between(1, 3);
  *holds = 1;
  for (int i = 0; i < 3; i++) {
    d.x_size[i] = d.y_size[i] = d.ker[i] = d.stride[i] = d.dil[i] = 1;
    if (i < 3 - rank) continue;
    d.x_size[i] = between(1, rank == 1 ? 80 : rank == 2 ? 20 : 8);
    if (d.adaptive) {
      d.y_size[i] = one_in(4) ? d.x_size[i] : between(1, d.x_size[i] + 3);
      continue;
    }
    d.ker[i] = alike ? ker : between(1, one_in(4) ? 20 : 5);
    d.stride[i] = alike ? stride : between(1, 6);
    if (d.kind == FC_MAX && one_in(3)) d.dil[i] = between(1, 3);
    d.pad[i] = between(0, one_in(8) ? 5 : d.ker[i] / 2);
    d.pad_end[i] = one_in(3) ? between(0, 5) : d.pad[i];
    const int64_t room = d.x_size[i] + d.pad[i] + d.pad_end[i] - d.dil[i] * (d.ker[i] - 1) - 1;
    d.y_size[i] = room >= 0 ? room / d.stride[i] + 1 : between(1, 3);
    for (int64_t o = 0, inside; o < d.y_size[i]; o++) {
      count_of(&d, i, o, &inside);
      *holds &= inside > 0;
    }
  }
  return d;
}

/* What is expected of a pooling in the memory of its result; forward also of the indices, which backward are given. */
static void pool(const fc_pool_desc *d, const array *x, const array *y, const array *dx, array *indices, double *result) {
  const int64_t out = d->y_size[0] * d->y_size[1] * d->y_size[2];
  const int backward = d->direction == FC_BWD_INPUT, located = d->kind == FC_MAX && !(backward && d->indices);
  for (int64_t i = 0; i < elements(y); i++) {
    const int64_t n = i / out / d->c, c = i / out % d->c, yi = place_at(y, i);
    const int64_t o[3] = {i % out / d->y_size[2] / d->y_size[1], i / d->y_size[2] % d->y_size[1], i % d->y_size[2]};
    double divisor = d->kind == FC_AVG && d->divisor != 0 ? d->divisor : 1, sum = 0, most = -INFINITY;
    int64_t unused, best = -1, p[3];
    for (int k = 0; k < 3 && d->kind == FC_AVG && d->divisor == 0; k++) divisor *= (double)count_of(d, k, o[k], &unused);
    for (int64_t t = 0; tap_of(d, 0, o[0], t, &p[0]); t++)
      for (int64_t u = 0; tap_of(d, 1, o[1], u, &p[1]); u++)
        for (int64_t v = 0; tap_of(d, 2, o[2], v, &p[2]); v++) {
          if (p[0] < 0 || p[1] < 0 || p[2] < 0) continue;
          const int64_t at[DIMS] = {n, c, p[0], p[1], p[2]};
          if (located && get(x, place_of(x, at)) > most) {
            most = get(x, place_of(x, at));
            best = (p[0] * d->x_size[1] + p[1]) * d->x_size[2] + p[2];
          }
          if (d->kind != FC_MAX && backward) result[place_of(dx, at)] += get(y, yi) / divisor;
          if (d->kind != FC_MAX && !backward) sum += get(x, place_of(x, at));
        }
    if (!backward) result[yi] = d->kind == FC_MAX ? most : sum / divisor;
    if (!backward && d->indices) *index_at(indices, i) = best;
    if (!backward || d->kind != FC_MAX) continue;
    if (d->indices) best = *index_at(indices, i);
    result[place_of(dx, (int64_t[]){n, c, best / d->x_size[2] / d->x_size[1], best / d->x_size[2] % d->x_size[1],
                                    best % d->x_size[2]})] += get(y, yi);
  }
}

static void run_pool(const fc_pool_desc *d, const fc_plan *plan, int nthreads) {
  const int64_t x_sizes[DIMS] = {d->n, d->c, d->x_size[0], d->x_size[1], d->x_size[2]};
  const int64_t y_sizes[DIMS] = {d->n, d->c, d->y_size[0], d->y_size[1], d->y_size[2]}, es = bytes_of(&d->types);
  const int backward = d->direction == FC_BWD_INPUT, needs_x = !backward || (d->kind == FC_MAX && !d->indices);
  const int64_t bytes = fc_plan_workspace(plan, nthreads, 0), plane = d->x_size[0] * d->x_size[1] * d->x_size[2];
  if (!proportionate(bytes, (double)es * (count(x_sizes, DIMS) + count(y_sizes, DIMS)), nthreads, "of scratch")) return;
  double work = count(y_sizes, DIMS);
  for (int i = 0; i < 3; i++)
    work *= d->adaptive ? (double)(d->x_size[i] / d->y_size[i] + 2)
                        : fmin((double)d->ker[i], (double)d->x_size[i] + d->pad[i] + d->pad_end[i]);
  if (work > MOST_WORK) return;
  array x = {0}, y = {0}, dx = {0}, indices = {0}, found = {0};
  double *expected = 0, *apart = 0;
  if (!make_numbers(&x, x_sizes, d->x_stride, es) || !make_numbers(&y, y_sizes, d->y_stride, es) ||
      !make(&dx, x_sizes, d->dx_stride, es))
    goto end;
  if (d->indices) {
    if (!make(&indices, y_sizes, d->indices_stride, 8) || !make(&found, y_sizes, d->indices_stride, 8)) goto end;
    for (int64_t i = 0; i < found.extent; i++) ((int64_t *)found.memory)[i] = ((int64_t *)indices.memory)[i] = -7;
    for (int64_t i = 0; backward && i < elements(&indices); i++) *index_at(&indices, i) = between(0, plane - 1);
    if (!backward && !(apart = expectation(&indices))) goto end;
  }
  array *result = backward ? &dx : &y;
  if (!(expected = expectation(result))) goto end;
  pool(d, &x, &y, &dx, backward ? &indices : &found, expected);
  for (int64_t i = 0; i < result->extent; i++) set(result, i, NAN);
  const double tolerance = finish(result, expected, &(fc_act){.kind = FC_ACT_NONE}, d->kind == FC_AVG ? 32 : 0);
  const int wrong = backward && d->indices && one_in(8);
  if (wrong)
    *index_at(&indices, between(0, elements(&indices) - 1)) = one_in(2) ? -1 - between(0, INT64_MAX - 1)
                                                                        : between(plane, INT64_MAX - 1);
  void *given[FC_SLOTS] = {[FC_X] = needs_x ? x.first : 0,
                           [FC_Y] = y.first,
                           [FC_INDICES] = d->indices ? indices.first : 0,
                           [FC_DX] = backward ? dx.first : 0};
  const int missing = one_in(8) ? some_slot(given) : -1, lacks = missing >= 0;
  if (lacks) given[missing] = 0;
  const int status = run_plan(plan, given, nthreads);
  if (lacks || wrong) {
    if (status != FC_ERROR_ARGUMENT) fail("runs without array %d or with wrong indices: status %d", lacks ? missing : -1, status);
  } else if (status != FC_OK) {
    fail("status %d", status);
  } else {
    compare(result, expected, tolerance, "pool");
    if (!backward && d->indices && memcmp(indices.memory, found.memory, (size_t)(8 * found.extent))) fail("other indices");
  }
end:
  free(expected);
  free(apart);
  array *all[] = {&x, &y, &dx, &indices, &found};
  for (int i = 0; i < 5; i++) done(all[i]);
}

static void pool_case(void) {
  int holds;
  fc_pool_desc d = some_pool(&holds);
  const int64_t x[DIMS] = {d.n, d.c, d.x_size[0], d.x_size[1], d.x_size[2]},
                y[DIMS] = {d.n, d.c, d.y_size[0], d.y_size[1], d.y_size[2]};
  const int backward = d.direction == FC_BWD_INPUT, nthreads = threads(), spoilt = one_in(2), starved = one_in(16);
  lay_out(x, DIMS, d.x_stride, 1);
  lay_out(y, DIMS, d.y_stride, backward);
  lay_out(x, DIMS, d.dx_stride, 0);
  lay_out(y, DIMS, d.indices_stride, backward);
  if (spoilt) spoil(&d.types, &d.kind, 6, &d.n, POOL_NUMBERS);
  if (spoilt && one_in(8)) d.divisor = one_in(2) ? NAN : 1e-320;
  print_types(&d.types);
  print("pool kind direction isa indices adaptive count_pad divisor threads",
        (int64_t[]){d.kind, d.direction, d.isa, d.indices, d.adaptive, d.count_pad, (int64_t)d.divisor, nthreads}, 8);
  print("n c, in out ker stride pad pad_end dil, x y dx indices strides", &d.n, POOL_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  watch(starved ? between(1, 4) : 0);
  const int status = fc_plan_pool(&d, &plan);
  watching = 0;
  if (verbose) printf("status %d\n", status);
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (void *)plan);
  if (!starved) check_types(&d.types, status);
  if (status < FC_OK || status > FC_ERROR_UNSUPPORTED) fail("status %d", status);
  if (!spoilt && !starved && holds && status != FC_OK) fail("status %d", status);
  const int64_t sizes[2][DIMS] = {{d.n, d.c, d.x_size[0], d.x_size[1], d.x_size[2]},
                                  {d.n, d.c, d.y_size[0], d.y_size[1], d.y_size[2]}};
  if (status != FC_ERROR_ARGUMENT) proportionate(allocated, 8 * (count(sizes[0], DIMS) + count(sizes[1], DIMS)), 1, "for a plan");
  if (!plan) return;
  shared->accepted++;
  check_threads(plan, nthreads);
  run_pool(&d, plan, nthreads);
  fc_plan_destroy(plan);
}

/* --------------------------------------------------------------------------------------------------------- copies */

enum { COPY_NUMBERS = (offsetof(fc_copy_desc, value) - offsetof(fc_copy_desc, size)) / sizeof(int64_t) };

static void copy_case(void) {
  fc_copy_desc d = {.types = some_types(),
                    .direction = (int)between(FC_FWD, FC_BWD_INPUT),
                    .isa = usable_isa(),
                    .rank = (int)between(0, DIMS),
                    .mode = (int)between(FC_PAD_CONSTANT, FC_PAD_CIRCULAR)};
  const int spoilt = one_in(2), backward = d.direction == FC_BWD_INPUT, nthreads = threads();
  if (!backward && one_in(2)) d.types.y = FC_F32 + FC_F64 - d.types.x;
  int64_t padded[DIMS] = {1, 1, 1, 1, 1};
  for (int i = 0; i < d.rank; i++) {
    d.size[i] = between(1, 12);
    const int64_t most = d.mode == FC_PAD_REFLECT ? d.size[i] - 1 : d.mode == FC_PAD_CIRCULAR ? d.size[i] : 5;
    if (one_in(3)) {
      d.before[i] = between(-(d.size[i] / 3), most);
      d.after[i] = between(-(d.size[i] / 3), most);
    }
    padded[i] = d.size[i] + d.before[i] + d.after[i];
  }
  lay_out(backward ? padded : d.size, d.rank, d.x_stride, 1);
  lay_out(backward ? d.size : padded, d.rank, d.out_stride, 0);
  if (spoilt) spoil(&d.types, &d.direction, 4, d.size, COPY_NUMBERS);
  print("copy direction dtypes isa rank mode threads",
        (int64_t[]){d.direction, d.types.x, d.types.y, d.isa, d.rank, d.mode, nthreads}, 7);
  print("size, before, after, x's and out's strides", d.size, COPY_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  const int status = fc_plan_copy(&d, &plan);
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (void *)plan);
  if (!spoilt && status != FC_OK) fail("status %d", status);
  if (!plan) return;
  shared->accepted++;
  check_threads(plan, nthreads);
  int64_t sizes[2][DIMS] = {{1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}}, strides[2][DIMS] = {{0}};
  array x = {.es = 0}, out = {0};
  double *expected = 0;
  if (d.rank > DIMS) goto end;
  const int back = d.direction == FC_BWD_INPUT;
  for (int i = 0; i < d.rank; i++) {
    sizes[back][i] = d.size[i];
    sizes[!back][i] = d.size[i] + d.before[i] + d.after[i];
    strides[0][i] = d.x_stride[i];
    strides[1][i] = d.out_stride[i];
  }
  if (!make_numbers(&x, sizes[0], strides[0], d.types.x == FC_F32 ? 4 : 8) ||
      !make(&out, sizes[1], strides[1], d.types.y == FC_F32 ? 4 : 8) || !(expected = expectation(&out)))
    goto end;
  const array *whole = back ? &x : &out, *inner = back ? &out : &x;
  for (int64_t i = 0; i < elements(whole); i++) {
    int64_t rest = i, at = 0, step = 1;
    for (int k = d.rank - 1; k >= 0; k--) {
      const int64_t n = whole->sizes[k], from = padded_from(d.mode, rest % n - d.before[k], d.size[k]);
      rest /= n;
      at = from < 0 || at < 0 ? -1 : at + from * step;
      step *= d.size[k];
    }
    if (!back)
      expected[place_at(&out, i)] = at < 0 ? 0 : get(&x, place_at(&x, at));
    else if (at >= 0)
      expected[place_at(inner, at)] += get(&x, place_at(&x, i));
  }
  void *arrays[FC_SLOTS] = {[FC_X] = x.first, [FC_OUT] = out.first};
  if (fc_run(plan, arrays, 0, nthreads) != FC_OK) fail("does not run");
  compare(&out, expected, 0, "copy");
  arrays[one_in(2) ? FC_X : FC_OUT] = 0;
  if (fc_run(plan, arrays, 0, nthreads) != FC_ERROR_ARGUMENT) fail("runs without an array");
end:
  free(expected);
  done(&x);
  done(&out);
  fc_plan_destroy(plan);
}

/* ----------------------------------------------------------------------------------------------------------- maps */

enum { MAP_NUMBERS = (offsetof(fc_map_desc, act) - offsetof(fc_map_desc, size)) / sizeof(int64_t), OPERANDS = 3 };

/* Of the arithmetic functions the result; NaN of others, which are run alone. */
static double mapped(int op, const double v[OPERANDS]) {
  switch (op) {
  case FC_MAP_ADD: return v[0] + v[1];
  case FC_MAP_SUBTRACT: return v[0] - v[1];
  case FC_MAP_MULTIPLY: return v[0] * v[1];
  case FC_MAP_MAXIMUM: return fmax(v[0], v[1]);
  case FC_MAP_MINIMUM: return fmin(v[0], v[1]);
  case FC_MAP_SCALE_SHIFT: return v[0] * v[1] + v[2];
  default: return NAN;
  }
}

static void map_case(void) {
  fc_map_desc d = {.op = (int)between(FC_MAP_ACTIVATE, FC_MAP_DROPOUT),
                   .types = some_types(),
                   .isa = usable_isa(),
                   .rank = (int)between(0, DIMS),
                   .act = activation(),
                   .p = one_in(8) ? 1 : 0.3};
  const int spoilt = one_in(2), nthreads = threads();
  for (int i = 0; i < d.rank; i++) d.size[i] = between(1, 9);
  lay_out(d.size, d.rank, d.out_stride, 0);
  for (int k = 0; k < OPERANDS; k++) lay_out(d.size, d.rank, d.stride[k], 1);
  for (int i = 0; i < d.rank && d.op == FC_MAP_DROPOUT; i++) d.stride[1][i] = between(0, 1 << 20);
  if (spoilt) spoil(&d.types, &d.op, 3, d.size, MAP_NUMBERS);
  if (spoilt && one_in(20)) d.p = one_in(3) ? NAN : (double)border();
  if (spoilt && one_in(20)) d.act.kind = border_int();
  print_types(&d.types);
  print("map op isa rank act threads", (int64_t[]){d.op, d.isa, d.rank, d.act.kind, nthreads}, 5);
  print("size, out and operands' strides", d.size, MAP_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  const int status = fc_plan_map(&d, &plan);
  if (!accepted(plan, status, &d.types, spoilt, nthreads)) return;
  int64_t sizes[DIMS] = {1, 1, 1, 1, 1}, strides[1 + OPERANDS][DIMS] = {{0}};
  array in[OPERANDS] = {{.es = 0}}, out = {0};
  double *expected = 0;
  uint64_t numbers[2] = {random64(), random64()};
  const int dropout = d.op == FC_MAP_DROPOUT; /* whose second operand is no array */
  if (d.rank > DIMS) goto end;
  memcpy(sizes, d.size, (size_t)d.rank * sizeof *sizes);
  for (int k = 0; k <= OPERANDS; k++)
    if (!(k == 2 && dropout)) memcpy(strides[k], k ? d.stride[k - 1] : d.out_stride, (size_t)d.rank * sizeof *sizes);
  for (int k = 0; k < OPERANDS; k++)
    if (!make_numbers(&in[k], sizes, strides[1 + k], bytes_of(&d.types))) goto end;
  if (!make(&out, sizes, strides[0], bytes_of(&d.types)) || !(expected = expectation(&out))) goto end;
  for (int64_t i = 0; i < elements(&out); i++) {
    double v[OPERANDS];
    for (int k = 0; k < OPERANDS; k++) v[k] = get(&in[k], place_at(&in[k], i));
    expected[place_at(&out, i)] = mapped(d.op, v);
  }
  void *arrays[FC_SLOTS] = {[FC_X] = in[0].first, [FC_W] = in[1].first, [FC_ADD] = in[2].first, [FC_OUT] = out.first};
  if (dropout) arrays[FC_W] = numbers;
  if (fc_run(plan, arrays, 0, nthreads) != FC_OK) fail("does not run");
  if (!isnan(mapped(d.op, (double[]){1, 1, 1}))) compare(&out, expected, 0, "map");
  arrays[one_in(2) ? FC_X : FC_OUT] = 0;
  if (fc_run(plan, arrays, 0, nthreads) != FC_ERROR_ARGUMENT) fail("runs without an array");
end:
  free(expected);
  for (int k = 0; k < OPERANDS; k++) done(&in[k]);
  done(&out);
  fc_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------------- reductions */

enum { SLOTS = 11, OUT = 6, REDUCE_INTS = 6, REDUCE_NUMBERS = 8 + 8 * SLOTS };

/* The arrays of each kind, by bits. */
static const int slots[] = {0x101, 0x301, 0x301, 0x301, 0x07d, 0x771, 0x37f, 0x31f, 0x041, 0x341, 0x043, 0x043};

static fc_reduce_desc some_reduction(void) {
  fc_reduce_desc d = {.kind = (int)between(FC_SUM_OVER, FC_LOG_SOFTMAX_BACKWARD),
                      .types = some_types(),
                      .isa = usable_isa(),
                      .rank = (int)between(0, DIMS),
                      .root_mean_square = one_in(4),
                      .p0 = 1};
  const int64_t most = one_in(8) ? 4000 : 12;
  for (int i = 0; i < d.rank; i++) d.size[i] = one_in(4) ? 1 : between(1, i == d.rank - 1 ? most : 9);
  d.reduced = (int)between(0, (1 << d.rank) - 1);
  for (int s = 0; s < SLOTS; s++) {
    if (!(slots[d.kind] >> s & 1)) continue;
    int64_t sizes[DIMS];
    for (int i = 0; i < d.rank; i++) sizes[i] = s > OUT && d.reduced >> i & 1 ? 1 : d.size[i];
    lay_out(sizes, d.rank, d.stride[s], s < OUT);
    for (int i = 0; i < d.rank; i++)
      if (sizes[i] < d.size[i] || (s > 0 && s < OUT && one_in(3))) d.stride[s][i] = 0;
    /* Of those that may be absent, some are. */
    if (s < 2 || s == OUT || !one_in(3)) d.present |= 1 << s;
  }
  if (!(d.present >> OUT)) d.present |= 1 << (OUT + 2);
  return d;
}

/* Runs it; sums and largest elements are compared. */
static void run_reduction(const fc_reduce_desc *d, const fc_plan *plan, int nthreads) {
  array arrays[SLOTS];
  memset(arrays, 0, sizeof arrays);
  void *memory[FC_SLOTS] = {0};
  double *expected = 0;
  int made = 0, fits = d->rank <= DIMS;
  for (; fits && made < SLOTS; made++) {
    const int s = made, places = s == 9 && (d->kind == FC_MAX_OVER || d->kind == FC_MIN_OVER);
    if (!(d->present >> s & 1)) continue;
    int64_t sizes[DIMS], strides[DIMS];
    for (int i = 0; i < DIMS; i++) {
      sizes[i] = i >= d->rank || (s > OUT && d->reduced >> i & 1) ? 1 : d->size[i];
      strides[i] = i < d->rank ? d->stride[s][i] : 0;
    }
    fits = (s < OUT ? make_numbers : make)(&arrays[s], sizes, strides, places ? 8 : bytes_of(&d->types));
    memory[s] = arrays[s].first;
  }
  double *apart = 0;
  for (int s = OUT; fits && s < SLOTS; s++) { /* no two elements of a result share a place */
    if (!arrays[s].memory) continue;
    free(apart);
    apart = expectation(&arrays[s]);
    fits = apart != 0;
  }
  if (fits && d->kind == FC_SUM_OVER && d->p0 == 1) {
    const array *x = &arrays[0], *y = &arrays[8];
    expected = expectation(y);
    for (int64_t i = elements(x) - 1; i >= 0; i--) {
      int64_t at[DIMS], rest = i;
      for (int k = DIMS - 1; k >= 0; k--) {
        at[k] = rest % x->sizes[k];
        rest /= x->sizes[k];
      }
      const double v = get(x, place_of(x, at));
      for (int k = 0; k < DIMS; k++) at[k] = y->sizes[k] == 1 ? 0 : at[k];
      expected[place_of(y, at)] += v;
    }
  }
  if (fits) {
    const int64_t bytes = fc_plan_workspace(plan, nthreads, 0);
    if (proportionate(bytes, 8 * count(d->size, d->rank), nthreads, "of scratch")) {
      void *workspace = allocate((size_t)bytes);
      const int missing = one_in(16);
      if (missing) memory[0] = 0;
      const int status = fc_run(plan, memory, workspace, nthreads);
      if (status != (missing ? FC_ERROR_ARGUMENT : FC_OK)) fail("status %d of run", status);
      if (expected && !missing) compare(&arrays[8], expected, 0, "sums");
      free(workspace);
    }
  }
  free(expected);
  free(apart);
  for (int s = 0; s < made; s++) done(&arrays[s]);
}

static void reduce_case(void) {
  fc_reduce_desc d = some_reduction();
  const int nthreads = threads(), spoilt = one_in(2), starved = one_in(16);
  if (spoilt) spoil(&d.types, &d.kind, REDUCE_INTS, d.size, REDUCE_NUMBERS);
  if (spoilt && one_in(8)) d.p0 = one_in(2) ? NAN : (double)border();
  print_types(&d.types);
  print("reduction kind isa rank reduced present root_mean_square threads",
        (int64_t[]){d.kind, d.isa, d.rank, d.reduced, d.present, d.root_mean_square, nthreads}, 7);
  print("size, strides", d.size, REDUCE_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  watch(starved ? 1 : 0);
  const int status = fc_plan_reduce(&d, &plan);
  watching = 0;
  if (verbose) printf("status %d\n", status);
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (void *)plan);
  if (!starved) check_types(&d.types, status);
  if (status < FC_OK || status > FC_ERROR_UNSUPPORTED || status == FC_ERROR_REFUSED) fail("status %d", status);
  if (!spoilt && !starved && status == FC_ERROR_MEMORY) fail("status %d", status);
  if (!plan) return;
  shared->accepted++;
  const int n = fc_plan_threads(plan, nthreads, 0);
  if (n < 1 || n > (nthreads > 1 ? nthreads : 1)) fail("%d of %d threads", n, nthreads);
  run_reduction(&d, plan, nthreads);
  fc_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------------- resizing */

enum { RESIZE_NUMBERS = (offsetof(fc_resize_desc, first) - offsetof(fc_resize_desc, n)) / sizeof(int64_t), MOST_TERMS = 4 };

/* A table for so many positions, or too few if there are many. */
typedef struct table {
  int64_t first[1 << 10], index[MOST_TERMS << 10];
  double weight[MOST_TERMS << 10];
} table;

static void some_table(table *t, int64_t x_size, int64_t y_size) {
  t->first[0] = 0;
  for (int64_t o = 0; o < y_size; o++) t->first[o + 1] = t->first[o] + between(0, MOST_TERMS);
  for (int64_t i = 0; i < t->first[y_size]; i++) {
    t->index[i] = between(0, x_size - 1);
    t->weight[i] = 0.5 * (double)between(-2, 2);
  }
}

static void run_resizing(const fc_resize_desc *d, const table *tables, const fc_plan *plan, int nthreads) {
  const int64_t x_sizes[DIMS] = {d->n, d->c, d->x_size[0], d->x_size[1], d->x_size[2]};
  const int64_t y_sizes[DIMS] = {d->n, d->c, d->y_size[0], d->y_size[1], d->y_size[2]}, es = bytes_of(&d->types);
  const int64_t bytes = fc_plan_workspace(plan, nthreads, 0);
  if (!proportionate(bytes, (double)es * (count(x_sizes, DIMS) + count(y_sizes, DIMS)), nthreads, "of scratch")) return;
  array x = {0}, y = {0};
  double *expected = 0;
  if (!make_numbers(&x, x_sizes, d->x_stride, es) || !make(&y, y_sizes, d->y_stride, es) || !(expected = expectation(&y)))
    goto end;
  for (int64_t i = 0; i < elements(&y); i++) {
    int64_t at[DIMS], rest = i, begin[3], terms[3];
    for (int k = DIMS - 1; k >= 0; rest /= y.sizes[k], k--) at[k] = rest % y.sizes[k];
    const int64_t place = place_of(&y, at);
    for (int k = 0; k < 3; k++) {
      begin[k] = d->first[k] ? d->first[k][at[2 + k]] : at[2 + k];
      terms[k] = d->first[k] ? d->first[k][at[2 + k] + 1] - begin[k] : 1;
    }
    for (int64_t t = 0; t < terms[0] * terms[1] * terms[2]; t++) {
      const int64_t which[3] = {t / terms[2] / terms[1], t / terms[2] % terms[1], t % terms[2]};
      double by = 1;
      for (int k = 0; k < 3; k++) {
        at[2 + k] = d->first[k] ? tables[k].index[begin[k] + which[k]] : begin[k];
        by *= d->first[k] ? tables[k].weight[begin[k] + which[k]] : 1;
      }
      expected[place] += by * get(&x, place_of(&x, at));
    }
  }
  void *given[FC_SLOTS] = {[FC_X] = x.first, [FC_Y] = y.first};
  const int missing = one_in(8) ? some_slot(given) : -1, lacks = missing >= 0;
  if (lacks) given[missing] = 0;
  const int status = run_plan(plan, given, nthreads);
  if (status != (lacks ? FC_ERROR_ARGUMENT : FC_OK)) fail("status %d", status);
  if (status == FC_OK) compare(&y, expected, 0, "resize");
end:
  free(expected);
  done(&x);
  done(&y);
}

static void resize_case(void) {
  static table tables[3];
  fc_resize_desc d = {.types = some_types(), .isa = usable_isa(), .n = between(1, 3), .c = between(1, 20)};
  const int spoilt = one_in(2), nthreads = threads(), starved = one_in(16);
  for (int i = 0; i < 3; i++) {
    d.x_size[i] = between(1, i == 2 && one_in(4) ? 600 : 7);
    d.y_size[i] = one_in(4) ? d.x_size[i] : between(1, i == 2 && one_in(4) ? 600 : 7);
  }
  lay_out((int64_t[]){d.n, d.c, d.x_size[0], d.x_size[1], d.x_size[2]}, DIMS, d.x_stride, 1);
  lay_out((int64_t[]){d.n, d.c, d.y_size[0], d.y_size[1], d.y_size[2]}, DIMS, d.y_stride, 0);
  for (int i = 0; i < 3; i++) {
    const int stays = d.x_size[i] == d.y_size[i] && one_in(3);
    some_table(&tables[i], d.x_size[i], d.y_size[i]);
    d.first[i] = stays ? 0 : tables[i].first;
    d.index[i] = tables[i].index;
    d.weight[i] = tables[i].weight;
  }
  if (spoilt && one_in(2)) spoil(&d.types, &d.isa, 1, &d.n, RESIZE_NUMBERS);
  int wrong = 0;
  for (int i = 0; i < 3; i++) {
    /* How long a table is, nobody can check. */
    if (d.first[i] && d.y_size[i] >= 1 << 10) d.first[i] = 0;
    if (!d.first[i] || !spoilt || !one_in(4) || d.y_size[i] < 1) continue;
    const int64_t terms = tables[i].first[d.y_size[i]];
    if (one_in(3) || terms < 1 || terms > MOST_TERMS << 10)
      tables[i].first[between(0, d.y_size[i])] = border();
    else if (one_in(3))
      *(one_in(2) ? (const void **)&d.index[i] : (const void **)&d.weight[i]) = 0;
    else
      tables[i].index[between(0, terms - 1)] = border();
    wrong = 1;
  }
  print_types(&d.types);
  print("resize isa threads", (int64_t[]){d.isa, nthreads}, 2);
  print("n c, x and y size, strides", &d.n, RESIZE_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  watch(starved ? between(1, 12) : 0);
  const int status = fc_plan_resize(&d, &plan);
  watching = 0;
  if (verbose) printf("status %d\n", status);
  if ((status == FC_OK) != (plan != 0)) fail("status %d and plan %p", status, (void *)plan);
  if (!starved) check_types(&d.types, status);
  if (!spoilt && !starved && status != FC_OK) fail("status %d", status);
  const double arrays = fabs((double)d.n * (double)d.c) * (count(d.x_size, 3) + count(d.y_size, 3));
  if (status != FC_ERROR_ARGUMENT) proportionate(allocated, 8 * arrays, 1, "for a plan");
  if (!plan) return;
  shared->accepted++;
  check_threads(plan, nthreads);
  if (!wrong) run_resizing(&d, tables, plan, nthreads);
  fc_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------- optimizers' steps */

enum {
  STEPPED = FC_UPDATE_ARRAYS, /* w, g and what is remembered */
  UPDATE_NUMBERS = (sizeof(fc_update_desc) - offsetof(fc_update_desc, size)) / sizeof(int64_t)
};

/* Of the elements of a step in place what fc_plan_update says: the rate is 2, the decay 3, a 0.5, everything else 1. */
static void stepped(int rule, int nesterov, const double numbers[8], const int there[STEPPED], double v[STEPPED]) {
  const double a = numbers[3], b = numbers[4], g = v[1] + numbers[1] * v[0] * numbers[2];
  double move = g;
  v[0] *= numbers[2];
  if (rule == FC_UPDATE_SGD && there[2]) {
    v[2] = a * v[2] + g;
    move = nesterov ? g + a * v[2] : v[2];
  } else if (rule == FC_UPDATE_ADAM) {
    v[2] += a * (g - v[2]);
    v[3] += b * (g * g - v[3]);
    move = v[2] / (sqrt(v[3]) * numbers[6] + numbers[5]);
  } else if (rule == FC_UPDATE_RMSPROP) {
    v[2] += b * (g * g - v[2]);
    v[3] += b * (g - v[3]);
    move = g / (sqrt(fmax(0, v[2] - (there[3] ? v[3] * v[3] : 0))) + numbers[5]);
    if (there[4]) move = v[4] = a * v[4] + move;
  }
  v[0] -= numbers[0] * move;
}

static void update_case(void) {
  static const int needed[] = {0, 3, 1}, allowed[] = {1, 3, 7}, slot[STEPPED] = {FC_OUT, FC_X, FC_FIRST, FC_SECOND, FC_THIRD};
  fc_update_desc d = {.types = some_types(),
                      .rule = (int)between(FC_UPDATE_SGD, FC_UPDATE_RMSPROP),
                      .isa = usable_isa(),
                      .rank = (int)between(0, DIMS)};
  const int spoilt = one_in(2), nthreads = threads();
  d.remembered = needed[d.rule] | ((int)between(0, 7) & allowed[d.rule]);
  d.nesterov = d.rule == FC_UPDATE_SGD && d.remembered && one_in(2);
  for (int i = 0; i < d.rank; i++) d.size[i] = between(1, i == d.rank - 1 && one_in(8) ? 2000 : 9);
  for (int k = 0; k < STEPPED; k++) lay_out(d.size, d.rank, d.stride[k], k == 1);
  if (spoilt) spoil(&d.types, &d.rule, 5, d.size, UPDATE_NUMBERS);
  print_types(&d.types);
  print("update rule nesterov remembered isa rank threads",
        (int64_t[]){d.rule, d.nesterov, d.remembered, d.isa, d.rank, nthreads}, 6);
  print("size, strides of w, g and what is remembered", d.size, UPDATE_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  const int status = fc_plan_update(&d, &plan);
  if (!accepted(plan, status, &d.types, spoilt, nthreads)) return;
  int64_t sizes[DIMS] = {1, 1, 1, 1, 1}, strides[DIMS] = {0};
  int there[STEPPED], made = 0, fits = d.rank <= DIMS;
  array a[STEPPED];
  double *expected[STEPPED] = {0};
  void *arrays[FC_SLOTS] = {0};
  double numbers[8] = {2, one_in(2) ? 3 : 0, 1, 0.5, 1, 1, 1, 0};
  memset(a, 0, sizeof a);
  for (; fits && made < STEPPED; made++) {
    there[made] = made < 2 || d.remembered >> (made - 2) & 1;
    if (!there[made]) continue;
    memcpy(sizes, d.size, (size_t)d.rank * sizeof *sizes);
    memcpy(strides, d.stride[made], (size_t)d.rank * sizeof *strides);
    if (!make_numbers(&a[made], sizes, strides, bytes_of(&d.types)) || (made != 1 && !(expected[made] = expectation(&a[made])))) {
      fits = 0;
      break;
    }
    arrays[slot[made]] = a[made].first;
  }
  if (fits) {
    for (int64_t i = 0; i < elements(&a[0]); i++) {
      double v[STEPPED] = {0};
      for (int k = 0; k < STEPPED; k++)
        if (there[k]) v[k] = get(&a[k], place_at(&a[k], i));
      stepped(d.rule, d.nesterov, numbers, there, v);
      for (int k = 0; k < STEPPED; k++)
        if (expected[k]) expected[k][place_at(&a[k], i)] = v[k];
    }
    if (fc_run(plan, arrays, 0, nthreads) != FC_ERROR_ARGUMENT) fail("runs without its numbers");
    arrays[FC_NUMBERS] = numbers;
    if (fc_run(plan, arrays, 0, nthreads) != FC_OK) fail("does not run");
    for (int k = 0; k < STEPPED; k++)
      if (expected[k]) compare(&a[k], expected[k], 1e-4, "update");
  }
  for (int k = 0; k < STEPPED; k++) {
    free(expected[k]);
    done(&a[k]);
  }
  fc_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------------------ losses */

enum {
  LOST = 6, /* x, targets, weights, positive weights, the loss or dy, dx */
  LOSS_NUMBERS = (sizeof(fc_loss_desc) - offsetof(fc_loss_desc, size)) / sizeof(int64_t)
};

/* Sums alone have a workspace. */
static int run_loss(const fc_loss_desc *d, const fc_plan *plan, void *const *arrays, int nthreads) {
  return d->reduced ? run_plan(plan, arrays, nthreads) : fc_run(plan, arrays, 0, nthreads);
}

static void loss_case(void) {
  static const int slot[LOST] = {FC_X, FC_TARGET, FC_FIRST, FC_SECOND, FC_Y, FC_DX};
  fc_loss_desc d = {.types = some_types(),
                    .kind = (int)between(FC_LOSS_MSE, FC_LOSS_CLASSES),
                    .isa = usable_isa(),
                    .rank = (int)between(0, DIMS),
                    .p0 = 2,
                    .divisor = 4};
  const int spoilt = one_in(2), nthreads = threads();
  const int classes = d.kind == FC_LOSS_CLASSES;
  d.direction = (int)between(classes, FC_BWD_INPUT);
  d.reduced = d.direction == FC_FWD && one_in(2);
  d.factors = (int)between(classes ? 2 : 0, classes || d.kind == FC_LOSS_BINARY_LOGITS ? 3 : 1);
  for (int i = 0; i < d.rank; i++) d.size[i] = between(1, i == d.rank - 1 && one_in(8) ? 2000 : 9);
  for (int k = 0; k < LOST; k++) lay_out(d.size, d.rank, d.stride[k], k < 4 || (k == 4 && d.direction));
  if (spoilt) spoil(&d.types, &d.kind, 6, d.size, LOSS_NUMBERS);
  if (spoilt && one_in(20)) d.p0 = one_in(3) ? NAN : (double)border();
  print_types(&d.types);
  print("loss kind direction reduced factors isa rank threads",
        (int64_t[]){d.kind, d.direction, d.reduced, d.factors, d.isa, d.rank, nthreads}, 7);
  print("size, strides of x, targets, weights, positive weights, y and dx", d.size, LOSS_NUMBERS);
  fc_plan *plan = (fc_plan *)&d;
  const int status = fc_plan_loss(&d, &plan);
  if (!accepted(plan, status, &d.types, spoilt, nthreads)) return;
  const int result = d.direction ? 5 : 4, there[LOST] = {1, 1, d.factors & 1, d.factors >> 1, 1, d.direction};
  int64_t sizes[DIMS] = {1, 1, 1, 1, 1}, one[DIMS] = {1, 1, 1, 1, 1}, strides[DIMS] = {0};
  int fits = d.rank <= DIMS && d.p0 == 2;
  array a[LOST];
  double *expected = 0, sum = 0, magnitude = 0;
  void *arrays[FC_SLOTS] = {0};
  memset(a, 0, sizeof a);
  for (int k = 0; fits && k < LOST; k++) {
    if (!there[k]) continue;
    const int number = k == result && d.reduced;
    memcpy(sizes, d.size, (size_t)d.rank * sizeof *sizes);
    memcpy(strides, d.stride[k], (size_t)d.rank * sizeof *strides);
    fits = make_numbers(&a[k], number ? one : sizes, strides, bytes_of(&d.types));
    if (fits) arrays[slot[k]] = a[k].first;
  }
  if (!fits || !(expected = expectation(&a[result]))) goto end;
  /* Where no loss has a kink: x between 0 and 1, whatever else is written there, targets beside them. */
  for (int64_t i = 0; i < elements(&a[0]); i++) set(&a[0], place_at(&a[0], i), 0.375);
  for (int64_t i = 0; i < elements(&a[1]); i++) set(&a[1], place_at(&a[1], i), (double)between(1, 3) * 0.5);
  for (int64_t i = 0; i < elements(&a[0]); i++) {
    double v[LOST];
    for (int k = 0; k < LOST; k++) v[k] = there[k] && !(k == result && d.reduced) ? get(&a[k], place_at(&a[k], i)) : 1;
    const double value = v[2] *
                         (d.direction ? v[4] * slope_of_loss(d.kind, v[0], v[1], v[3]) : loss_of(d.kind, v[0], v[1], v[3]));
    sum += value;
    magnitude += fabs(value);
    if (!d.reduced) expected[place_at(&a[result], i)] = value;
  }
  if (d.reduced) expected[place_at(&a[result], 0)] = sum / d.divisor;
  if (run_loss(&d, plan, arrays, nthreads) != FC_OK) fail("does not run");
  compare(&a[result], expected, fmax(1e-3, 1e-6 * magnitude / d.divisor), "loss");
  const int64_t outside = place_at(&a[0], between(0, elements(&a[0]) - 1));
  set(&a[0], outside, one_in(2) ? NAN : 1.5);
  if (run_loss(&d, plan, arrays, nthreads) != (d.kind == FC_LOSS_BINARY ? FC_ERROR_ARGUMENT : FC_OK)) fail("takes an x of 1.5");
  arrays[slot[one_in(2) ? 1 : result]] = 0;
  if (run_loss(&d, plan, arrays, nthreads) != FC_ERROR_ARGUMENT) fail("runs without an array");
end:
  free(expected);
  for (int k = 0; k < LOST; k++) done(&a[k]);
  fc_plan_destroy(plan);
}

/* ---------------------------------------------------------------------------------------------------- all the others */

static void other_case(void) {
  const int i = border_int();
  if ((fc_isa_name(i) != 0) != (i >= 0 && i < fc_isa_count())) fail("fc_isa_name(%d)", i);
  if (!fc_isa_name(i) && !fc_isa_reason(i)) fail("fc_isa_reason(%d)", i);
  if ((fc_conv_algorithm_name(i) != 0) != (i >= 0 && i < fc_conv_algorithm_count())) fail("fc_conv_algorithm_name(%d)", i);
  const fc_conv_desc d = some_conv();
  if (!fc_conv_algorithm_name(i) && !fc_conv_algorithm_refusal(&d, i)) fail("fc_conv_algorithm_refusal(%d)", i);
  if (fc_version() != FC_VERSION) fail("fc_version()");
  int32_t calls[64] = {0};
  const int64_t npieces = one_in(4) ? between(INT64_MIN, 0) : between(0, 64), depth = between(0, 1);
  int64_t joined, flushed;
  const int n = threads(), on = one_in(2);
  fc_set_flush_denormals(on);
  if (fc_selftest_threads(n, npieces, between(-1, 100), (int)depth, calls, &joined, &flushed)) fail("fc_selftest_threads");
  if (joined > (n > 1 ? n : 1) || flushed != (on && npieces > 0 ? npieces : 0) || fc_get_flush_denormals() != on)
    fail("%lld of %d threads, %lld of %lld pieces", (long long)joined, n, (long long)flushed, (long long)npieces);
  for (int64_t k = 0; k < npieces; k++)
    if (calls[k] != 1) fail("piece %lld ran %d times", (long long)k, calls[k]);
  if (fc_worker_count() < 0 || fc_worker_count() > 255) fail("%d workers", fc_worker_count());
  fc_plan *none = (fc_plan *)calls;
  if (fc_plan_conv(0, &none) != FC_ERROR_ARGUMENT || none || fc_plan_gemm(0, &none) != FC_ERROR_ARGUMENT ||
      fc_plan_pool(0, &none) != FC_ERROR_ARGUMENT || fc_plan_map(0, &none) != FC_ERROR_ARGUMENT ||
      fc_plan_copy(0, &none) != FC_ERROR_ARGUMENT || fc_plan_reduce(0, &none) != FC_ERROR_ARGUMENT ||
      fc_plan_update(0, &none) != FC_ERROR_ARGUMENT || fc_plan_resize(0, &none) != FC_ERROR_ARGUMENT ||
      fc_run(none, 0, 0, n) != FC_ERROR_ARGUMENT || fc_run_steps(0, between(1, 9), 0, 0, 0, n) != FC_ERROR_ARGUMENT ||
      fc_run_steps(0, 0, 0, 0, 0, n) != FC_OK || fc_run_steps(0, 0, 0, 1, 0, n) != FC_ERROR_ARGUMENT ||
      fc_steps_workspace(0, 1, n) != -1 || fc_plan_workspace(none, n, 0) != -1 ||
      fc_plan_pack(none, calls, calls, n) != FC_ERROR_ARGUMENT || fc_plan_algorithm(none) || fc_plan_threads(none, n, 0) != 1 ||
      fc_plan_packed_bytes(none))
    fail("something without a plan");
  double flops = 0;
  const int isa = one_in(2) ? border_int() : usable_isa(), type = one_in(2) ? border_int() : (int)between(FC_F32, FC_F64);
  const double seconds = fc_fma_peak(isa, type, between(-10, 10), one_in(4) ? 0 : &flops);
  if (!(seconds >= -1) || !(flops >= 0)) fail("%g flops in %g seconds", flops, seconds);
}

static const struct {
  const char *name;
  void (*run)(void);
} operations[] = {{"others", other_case},  {"map", map_case},       {"gemm", gemm_case}, {"pool", pool_case},
                  {"pool", pool_case},     {"conv", conv_case},     {"conv", conv_case}, {"conv", conv_case},
                  {"reduce", reduce_case}, {"reduce", reduce_case}, {"copy", copy_case}, {"resize", resize_case},
                  {"update", update_case}, {"loss", loss_case}};

static void run_case(int64_t number) {
  shared->number = number;
  shared->cases++;
  state = (uint64_t)number * 0x2545f4914f6cdd1d;
  const struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS}};
  setitimer(ITIMER_PROF, &limit, 0);
  alarm(WALL_SECONDS);
  fc_set_flush_denormals(1);
  const int which = (int)(random64() % (sizeof operations / sizeof *operations));
  shared->operation = operations[which].name;
  operations[which].run();
}

int main(int count, char **arguments) {
  const double until = (double)time(0) + (count > 1 ? atof(arguments[1]) : 120);
  int64_t next = count > 2 ? atoll(arguments[2]) : 0;
  const int64_t end = count > 3 ? next + atoll(arguments[3]) : INT64_MAX;
  verbose = end - next == 1;
  shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  while (next < end && (double)time(0) < until && shared->failures < MOST_FAILURES) {
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) return 2;
    if (child == 0) {
      while (next < end && (double)time(0) < until && shared->failures < MOST_FAILURES) run_case(next++);
      alarm(0);
      exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 2;
    if (!status) break;
    if (WIFSIGNALED(status))
      fail("ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
      fail("ended the process with status %d", WEXITSTATUS(status));
    next = shared->number + 1;
  }
  printf("%lld cases, %lld accepted, %lld results compared, %lld failures\n", (long long)shared->cases,
         (long long)shared->accepted, (long long)shared->compared, (long long)shared->failures);
  return shared->failures != 0;
}
