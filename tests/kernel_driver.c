/* The kernels without Python: every operation of the public C ABI against plain loops, on every instruction set of this
 * binary that the CPU runs. For emulators, sanitizers and machines to which only a compiler goes:
 *
 *     cc -std=gnu11 -O2 -Icsrc $(find csrc -name "*.c") tests/kernel_driver.c -lm -pthread -o kernel_driver
 *     ./kernel_driver [instruction set ...]
 *
 * Data are small whole numbers, so that direct sums are exact and must be equal. Outputs are NaN beforehand and lie between
 * NaN. Instruction sets that are named must run. Prints a line for each one, and each failure; returns how it went. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elementwise.h"
#include "losses.h"
#include "padding.h"
#include "fastconv.h"

enum { MARGIN = 32, MOST_FAILURES = 20 };

static int isa, dtype, failures, checks;

/* The types of a problem: all that under test. */
#define ALIKE {dtype, dtype, dtype, dtype}

static void fail(const char *format, ...) {
  if (failures++ >= MOST_FAILURES) return;
  printf("%s, %s: ", fc_isa_name(isa), dtype == FC_F32 ? "f32" : "f64");
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
}

/* ------------------------------------------------------------------------------------------------------- data */

static uint32_t seed;

static int small(void) {
  seed = seed * 1664525 + 1013904223;
  return (int)(seed >> 24) % 7 - 3;
}

/* An array of the dtype under test amid NaN. */
typedef struct array {
  void *memory;
  int64_t size;
} array;

static double get(const array *a, int64_t i) {
  return dtype == FC_F32 ? ((float *)a->memory)[MARGIN + i] : ((double *)a->memory)[MARGIN + i];
}

static void set(array *a, int64_t i, double v) {
  if (dtype == FC_F32)
    ((float *)a->memory)[MARGIN + i] = (float)v;
  else
    ((double *)a->memory)[MARGIN + i] = v;
}

static void *allocate(size_t bytes) {
  void *p = malloc(bytes ? bytes : 1);
  if (p) return p;
  printf("not enough memory for the tests\n");
  exit(2);
}

static array unknown(int64_t size) {
  array a = {allocate((size_t)(size + 2 * MARGIN) * 8), size};
  for (int64_t i = -MARGIN; i < size + MARGIN; i++) set(&a, i, NAN);
  return a;
}

static array numbers(int64_t size) {
  array a = unknown(size);
  for (int64_t i = 0; i < size; i++) set(&a, i, small());
  return a;
}

static void *at(const array *a) { return a->memory ? (char *)a->memory + MARGIN * (dtype == FC_F32 ? 4 : 8) : 0; }

static void done(array *a) {
  free(a->memory);
  a->memory = 0;
}

/* Compares all elements, also those between the strides (which the expected array has as NaN). The tolerance is relative,
 * to each element or, where a transform mixes them, to the largest (before its activation). */
static void compare(const array *actual, const double *expected, double tolerance, double largest, const char *what,
                    const char *name) {
  checks++;
  for (int64_t i = -MARGIN; i < actual->size + MARGIN; i++) {
    const double got = get(actual, i), want = i < 0 || i >= actual->size ? NAN : expected[i];
    if (isnan(want) ? isnan(got) : fabs(got - want) <= tolerance * (1 + fmax(largest, fabs(want)))) continue;
    fail("%s of %s: element %lld is %g, expected %g", what, name, (long long)i, got, want);
    return;
  }
}

static double *blank(int64_t size) {
  double *p = allocate((size_t)size * sizeof *p);
  for (int64_t i = 0; i < size; i++) p[i] = NAN;
  return p;
}

/* ------------------------------------------------------------------------------------------------ activations */

/* Those that results are finished by; of exp, log and sqrt of large or negative sums too little is left. */
enum { ACTIVATIONS = FC_ACT_SOFTSIGN + 1 };

static double tolerance_of(int kind) { return kind <= FC_ACT_CLIP ? 0 : dtype == FC_F32 ? 1e-6 : 1e-14; }

/* ------------------------------------------------------------------------------------------- images in memory */

enum { FIRST, LAST, SPACED, LAYOUTS };
static const char *const layouts[] = {"channels first", "channels last", "columns apart"};

/* Strides over (n, channel, d, h, w). Returns how many elements that takes. */
static int64_t lay_out(int layout, int64_t n, int64_t c, const int64_t size[3], int64_t strides[5]) {
  const int64_t gap = layout == SPACED ? 2 : 1, whole = size[0] * size[1] * size[2];
  const int64_t pixel = layout == LAST ? c : gap;
  strides[4] = pixel;
  strides[3] = size[2] * pixel;
  strides[2] = size[1] * strides[3];
  strides[1] = layout == LAST ? 1 : whole * gap;
  strides[0] = c * whole * gap;
  return n * strides[0];
}

static int64_t offset(const int64_t s[5], int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) {
  return n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4];
}

#define EACH(i, n) for (int64_t i = 0; i < (n); i++)
#define EACH_PIXEL(size, d, h, w) \
  EACH(d, (size)[0])              \
    EACH(h, (size)[1])            \
      EACH(w, (size)[2])

/* ----------------------------------------------------------------------------------------------- convolutions */

typedef struct conv {
  const char *name;
  int64_t n, g, icg, ocg, in[3], ker[3], stride[3], lo[3], hi[3], dil[3];
} conv;

#define FLAT(h, w) {1, h, w}
#define ONES {1, 1, 1}
#define NO_PADS {0, 0, 0}, {0, 0, 0}
#define PADS(p) \
  {0, p, p}, { 0, p, p }

static const conv convs[] = {
    {"one pixel", 1, 1, 1, 1, ONES, ONES, ONES, NO_PADS, ONES},
    {"3x3", 2, 1, 5, 17, FLAT(9, 11), FLAT(3, 3), ONES, PADS(1), ONES},
    {"3x3, whole tiles", 1, 1, 16, 32, FLAT(8, 8), FLAT(3, 3), ONES, PADS(1), ONES},
    {"3x3, blocks of the reduction", 1, 1, 61, 13, FLAT(7, 7), FLAT(3, 3), ONES, PADS(1), ONES},
    {"3x3, many channels", 2, 1, 25, 33, FLAT(14, 13), FLAT(3, 3), ONES, PADS(1), ONES},
    {"3x3, many channels in groups", 1, 2, 32, 24, FLAT(11, 25), FLAT(3, 3), ONES, {0, 0, 2}, {0, 1, 0}, ONES},
    {"5x5, many channels", 2, 1, 25, 24, FLAT(7, 9), FLAT(5, 5), ONES, {0, 2, 1}, {0, 2, 2}, ONES},
    {"3x3, many channels with stride", 2, 1, 26, 33, FLAT(19, 22), FLAT(3, 3), FLAT(2, 2), {0, 2, 1}, {0, 0, 1}, ONES},
    {"7x1, many channels", 2, 1, 25, 33, FLAT(14, 13), FLAT(7, 1), ONES, {0, 3, 0}, {0, 2, 0}, ONES},
    {"5x7, many channels", 2, 1, 18, 33, FLAT(9, 14), FLAT(5, 7), ONES, {0, 2, 3}, {0, 2, 2}, ONES},
    {"1x3, many channels in groups", 1, 2, 32, 24, FLAT(5, 23), FLAT(1, 3), ONES, {0, 0, 2}, {0, 0, 0}, ONES},
    {"3x1x1", 1, 1, 33, 20, {9, 3, 5}, {3, 1, 1}, ONES, {1, 0, 0}, {1, 0, 0}, ONES},
    {"1x1", 2, 1, 33, 19, FLAT(7, 5), ONES, ONES, NO_PADS, ONES},
    {"1x1, deep", 1, 1, 700, 14, FLAT(5, 5), ONES, ONES, NO_PADS, ONES},
    {"1x1, whole tiles of images", 2, 1, 17, 40, FLAT(8, 12), ONES, ONES, NO_PADS, ONES},
    {"1x1 with stride", 2, 1, 8, 9, FLAT(8, 9), ONES, FLAT(2, 2), NO_PADS, ONES},
    {"stride", 2, 1, 6, 15, FLAT(12, 13), FLAT(3, 3), FLAT(2, 2), PADS(1), ONES},
    {"stride over kernel", 1, 1, 9, 10, FLAT(13, 14), FLAT(2, 2), FLAT(3, 3), NO_PADS, ONES},
    {"7x7 with stride", 1, 1, 3, 20, FLAT(19, 20), FLAT(7, 7), FLAT(2, 2), PADS(3), ONES},
    {"dilation", 1, 1, 7, 12, FLAT(11, 12), FLAT(3, 3), ONES, PADS(2), FLAT(2, 2)},
    {"dilation and stride", 1, 1, 4, 11, FLAT(14, 15), FLAT(3, 3), FLAT(2, 2), PADS(2), FLAT(3, 2)},
    {"uneven pads", 1, 1, 5, 9, FLAT(8, 7), FLAT(4, 3), FLAT(2, 1), {0, 0, 2}, {0, 3, 0}, ONES},
    {"cropped", 1, 1, 5, 9, FLAT(9, 9), FLAT(3, 3), ONES, {0, -1, 1}, {0, 1, -2}, ONES},
    {"pads over kernel", 1, 1, 4, 8, FLAT(5, 5), FLAT(2, 2), ONES, PADS(3), ONES},
    {"few filters", 2, 1, 8, 2, FLAT(10, 19), FLAT(3, 3), ONES, PADS(1), ONES},
    {"few filters with stride", 1, 1, 5, 3, FLAT(11, 18), FLAT(3, 3), FLAT(2, 2), PADS(1), ONES},
    {"few channels", 1, 1, 1, 18, FLAT(10, 11), FLAT(5, 5), ONES, PADS(2), ONES},
    {"groups", 2, 3, 6, 11, FLAT(8, 9), FLAT(3, 3), ONES, PADS(1), ONES},
    {"small groups", 1, 5, 2, 3, FLAT(9, 10), FLAT(3, 3), FLAT(2, 2), PADS(1), ONES},
    {"depthwise", 2, 19, 1, 1, FLAT(9, 21), FLAT(3, 3), ONES, PADS(1), ONES},
    {"depthwise with stride", 1, 17, 1, 1, FLAT(15, 14), FLAT(5, 5), FLAT(2, 2), PADS(2), ONES},
    {"depthwise with dilation", 1, 9, 1, 1, FLAT(12, 13), FLAT(3, 3), ONES, PADS(2), FLAT(2, 2)},
    {"depthwise, far apart", 1, 512, 1, 1, FLAT(9, 4), FLAT(3, 3), ONES, PADS(1), ONES},
    {"depthwise, two filters", 1, 8, 1, 2, FLAT(9, 9), FLAT(3, 3), ONES, PADS(1), ONES},
    {"one row", 2, 1, 6, 16, FLAT(1, 70), FLAT(1, 5), ONES, {0, 0, 4}, {0, 0, 0}, ONES},
    {"volume", 1, 1, 3, 9, {5, 6, 7}, {3, 2, 3}, {1, 2, 1}, {1, 0, 1}, {1, 1, 1}, ONES},
    {"volume, depthwise", 1, 7, 1, 1, {4, 5, 9}, {3, 3, 3}, ONES, {1, 1, 1}, {1, 1, 1}, ONES},
};

/* The three arrays of a problem and what each direction makes of them. */
static void convolve(const fc_conv_desc *d, const array *x, const array *w, const array *y, double *result) {
  EACH(n, d->n)
    EACH(g, d->groups)
      EACH(o, d->ocg)
        EACH(c, d->icg)
          EACH_PIXEL(d->y_size, a, b, e) {
            const int64_t yi = offset(d->y_stride, n, g * d->ocg + o, a, b, e);
            EACH_PIXEL(d->ker, i, j, k) {
              const int64_t p = a * d->stride[0] - d->pad[0] + i * d->dil[0], q = b * d->stride[1] - d->pad[1] + j * d->dil[1];
              const int64_t r = e * d->stride[2] - d->pad[2] + k * d->dil[2];
              if (p < 0 || q < 0 || r < 0 || p >= d->x_size[0] || q >= d->x_size[1] || r >= d->x_size[2]) continue;
              const int64_t xi = offset(d->x_stride, n, g * d->icg + c, p, q, r),
                            wi = offset(d->w_stride, g * d->ocg + o, c, i, j, k);
              if (d->direction == FC_FWD)
                result[yi] += get(x, xi) * get(w, wi);
              else if (d->direction == FC_BWD_INPUT)
                result[xi] += get(y, yi) * get(w, wi);
              else
                result[wi] += get(y, yi) * get(x, xi);
            }
          }
}

static void check_conv(const conv *v, int layout, int w_layout, int direction, int act, int extras, int nthreads) {
  fc_conv_desc d = {.types = ALIKE, .direction = direction, .isa = isa, .n = v->n, .groups = v->g, .icg = v->icg, .ocg = v->ocg};
  EACH(i, 3) {
    d.x_size[i] = v->in[i];
    d.ker[i] = v->ker[i];
    d.stride[i] = v->stride[i];
    d.pad[i] = v->lo[i];
    d.dil[i] = v->dil[i];
    d.y_size[i] = (v->in[i] + v->lo[i] + v->hi[i] - v->dil[i] * (v->ker[i] - 1) - 1) / v->stride[i] + 1;
  }
  const int to_weight = direction == FC_BWD_WEIGHT, to_input = direction == FC_BWD_INPUT;
  const int64_t nx = lay_out(layout, d.n, d.groups * d.icg, d.x_size, d.x_stride),
                ny = lay_out(layout, d.n, d.groups * d.ocg, d.y_size, d.y_stride);
  const int64_t nw = lay_out(w_layout, d.groups * d.ocg, d.icg, d.ker, d.w_stride);
  const int64_t size = to_weight ? nw : to_input ? nx : ny, channels = d.groups * (to_input ? d.icg : d.ocg);
  const int64_t *rs = to_weight  ? d.w_stride
                      : to_input ? d.x_stride
                                 : d.y_stride,
                *dims = to_weight  ? d.ker
                        : to_input ? d.x_size
                                   : d.y_size;
  const int64_t outer = to_weight ? d.groups * d.ocg : d.n, rows = to_weight ? d.icg : channels;
  memcpy(d.add_stride, rs, sizeof d.add_stride);
  d.act = some_act(act == FC_ACT_EXP ? FC_ACT_NONE : act);
  d.has_bias = d.has_add = extras;
  array x = numbers(nx), w = numbers(nw), y = numbers(ny), bias = {0}, add = {0};
  if (extras) {
    bias = numbers(channels);
    add = numbers(size);
  }
  double *expected = blank(size);
  EACH(n, outer)
    EACH(c, rows)
      EACH_PIXEL(dims, i, j, k) expected[offset(rs, n, c, i, j, k)] = 0;
  convolve(&d, &x, &w, &y, expected);
  double largest = 0;
  EACH(n, outer)
    EACH(c, rows)
      EACH_PIXEL(dims, i, j, k) {
        const int64_t e = offset(rs, n, c, i, j, k);
        const double sum = expected[e] + (extras ? get(&add, e) + get(&bias, c) : 0);
        largest = fmax(largest, fabs(sum));
        expected[e] = activate(&d.act, sum);
      }
  char what[200];
  static const char *const directions[] = {"result", "input gradient", "weight gradient"};
  snprintf(what, sizeof what, "%s, %s, weights %s, activation %d, extras %d, %d threads", v->name, layouts[layout],
           layouts[w_layout], act, extras, nthreads);
  EACH(k, fc_conv_algorithm_count()) {
    d.strict = 1;
    const int mixed = fc_conv_algorithm_refusal(&d, (int)k) != 0; /* what is not direct refuses to be strict */
    d.strict = 0;
    d.algorithm = (int)k + 1;
    if (fc_conv_algorithm_refusal(&d, (int)k)) continue;
    const char *name = fc_conv_algorithm_name((int)k);
    fc_plan *plan;
    if (fc_plan_conv(&d, &plan) || strcmp(name, fc_plan_algorithm(plan))) {
      fail("no plan with %s for %s", name, what);
      continue;
    }
    const double tolerance = mixed ? (dtype == FC_F32 ? 5e-5 : 1e-13) : tolerance_of(act);
    const int64_t packed_bytes = fc_plan_packed_bytes(plan);
    for (int packed = 0; packed <= (packed_bytes > 0); packed++) {
      void *weights = packed ? allocate((size_t)packed_bytes) : 0;
      void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, packed));
      array result = unknown(size);
      if (packed && fc_plan_pack(plan, at(&w), weights, nthreads)) fail("packing failed for %s", what);
      void *arrays[FC_SLOTS] = {[FC_X] = at(&x),       [FC_W] = at(&w),     [FC_Y] = at(&y),
                                [FC_BIAS] = at(&bias), [FC_ADD] = at(&add), [FC_PACKED] = weights};
      if (packed) arrays[FC_W] = 0;
      arrays[to_weight ? FC_W : to_input ? FC_X : FC_Y] = at(&result);
      if (fc_run(plan, arrays, workspace, nthreads)) fail("%s of %s failed", directions[direction], what);
      compare(&result, expected, tolerance, mixed ? largest : 0, name, what);
      done(&result);
      free(workspace);
      free(weights);
    }
    fc_plan_destroy(plan);
  }
  free(expected);
  array *all[] = {&x, &w, &y, &bias, &add};
  EACH(i, 5) done(all[i]);
}

static const conv *conv_named(const char *name) {
  const conv *v = convs;
  while (strcmp(v->name, name)) v++;
  return v;
}

static void check_convs(void) {
  EACH(i, (int64_t)(sizeof convs / sizeof *convs)) {
    EACH(layout, LAYOUTS) {
      EACH(direction, 3) {
        check_conv(&convs[i], (int)layout, FIRST, (int)direction, FC_ACT_NONE, 0, 1);
        check_conv(&convs[i], (int)layout, LAST, (int)direction, FC_ACT_NONE, 0, 3);
        if (direction != FC_BWD_WEIGHT) check_conv(&convs[i], (int)layout, FIRST, (int)direction, FC_ACT_RELU, 1, 2);
      }
    }
  }
  EACH(act, ACTIVATIONS)
    EACH(layout, LAYOUTS) {
      check_conv(conv_named("3x3"), (int)layout, FIRST, FC_FWD, (int)act, 0, 1);
      check_conv(conv_named("depthwise"), (int)layout, FIRST, FC_FWD, (int)act, 1, 1);
    }
}

/* --------------------------------------------------------------------------------------------------- products */

typedef struct product {
  int64_t batch, m, n, k;
} product;

static const product products[] = {
    {1, 1, 1, 1},   {1, 6, 16, 8},   {1, 14, 32, 9},  {1, 13, 33, 17},   {1, 1, 50, 30},  {1, 50, 1, 30}, {3, 7, 9, 5},
    {1, 29, 31, 0}, {2, 37, 41, 43}, {1, 5, 6, 1300}, {1, 100, 210, 20}, {1, 15, 7, 401}, {4, 2, 3, 2},
};

static void check_product(const product *v, int a_t, int b_t, int out_t, int act, int extras, int nthreads) {
  const int64_t m = v->m, n = v->n, k = v->k;
  fc_gemm_desc d = {
      .types = ALIKE,
      .isa = isa,
      .has_bias = extras,
      .has_c = extras,
      .batch = v->batch,
      .m = m,
      .n = n,
      .k = k,
      .a_stride = {m * k, a_t ? 1 : k, a_t ? m : 1},
      .b_stride = {k * n, b_t ? 1 : n, b_t ? k : 1},
      .c_stride = {m * n, n, 1},
      .out_stride = {m * n, out_t ? 1 : n, out_t ? m : 1},
      .alpha = extras ? 2 : 1,
      .beta = extras ? -3 : 0,
      .act = some_act(act == FC_ACT_EXP ? FC_ACT_NONE : act),
  };
  array a = numbers(v->batch * m * k), b = numbers(v->batch * k * n), c = {0}, bias = {0};
  if (extras) {
    c = numbers(v->batch * m * n);
    bias = numbers(n);
  }
  double *expected = blank(v->batch * m * n);
  EACH(t, v->batch)
    EACH(i, m)
      EACH(j, n) {
        double sum = 0;
        EACH(x, k)
          sum += get(&a, t * d.a_stride[0] + i * d.a_stride[1] + x * d.a_stride[2]) *
                 get(&b, t * d.b_stride[0] + x * d.b_stride[1] + j * d.b_stride[2]);
        if (extras) sum = 2 * sum - 3 * get(&c, t * d.c_stride[0] + i * d.c_stride[1] + j * d.c_stride[2]) + get(&bias, j);
        expected[t * d.out_stride[0] + i * d.out_stride[1] + j * d.out_stride[2]] = activate(&d.act, sum);
      }
  char what[200];
  snprintf(what, sizeof what, "%lld x (%lld x %lld x %lld), transposed %d %d %d, activation %d, extras %d, %d threads",
           (long long)v->batch, (long long)m, (long long)n, (long long)k, a_t, b_t, out_t, act, extras, nthreads);
  array out = unknown(v->batch * m * n);
  fc_plan *plan;
  if (fc_plan_gemm(&d, &plan)) fail("no plan for product %s", what);
  void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, 0));
  void *arrays[FC_SLOTS] = {[FC_A] = at(&a), [FC_B] = at(&b), [FC_BIAS] = at(&bias), [FC_C] = at(&c), [FC_OUT] = at(&out)};
  if (fc_run(plan, arrays, workspace, nthreads)) fail("product %s failed", what);
  compare(&out, expected, tolerance_of(act), 0, "product", what);
  fc_plan_destroy(plan);
  free(workspace);
  free(expected);
  array *all[] = {&a, &b, &c, &bias, &out};
  EACH(i, 5) done(all[i]);
}

static void check_products(void) {
  EACH(i, (int64_t)(sizeof products / sizeof *products))
    EACH(form, 8)
      EACH(extras, 2)
        check_product(&products[i], form & 1, form >> 1 & 1, form >> 2, extras ? FC_ACT_LEAKY_RELU : FC_ACT_NONE, (int)extras,
                      form % 3 + 1);
  EACH(act, ACTIVATIONS) check_product(&products[3], 0, 0, 0, (int)act, 1, 1);
}

/* -------------------------------------------------------------------------------------------------------- maps */

/* Sizes, the result's strides, and those of the first operand; the others' are those of the result. */
typedef struct map {
  const char *name;
  int rank;
  int64_t size[4], out[4], first[4];
} map;

static const map maps[] = {
    {"a number", 0, {0}, {0}, {0}},
    {"a long row", 1, {40013}, {1}, {1}},
    {"every second element", 1, {1301}, {2}, {2}},
    {"planes times numbers", 3, {3, 5, 49}, {245, 49, 1}, {5, 1, 0}},
    {"pixels times rows", 3, {3, 7, 19}, {133, 19, 1}, {19, 0, 1}},
    {"turned", 2, {33, 17}, {1, 33}, {17, 1}},
    {"four that do not adjoin", 4, {2, 3, 4, 5}, {100, 32, 7, 1}, {1, 2, 6, 24}},
};

static void check_map(const map *v, int op, int kind, int nthreads) {
  fc_map_desc d = {.op = op, .types = ALIKE, .isa = isa, .rank = v->rank, .act = some_act(kind)};
  int64_t count = 1, extents[4] = {1, 1, 1, 1};
  EACH(i, v->rank) {
    d.size[i] = v->size[i];
    d.out_stride[i] = d.stride[1][i] = d.stride[2][i] = v->out[i];
    d.stride[0][i] = v->first[i];
    count *= v->size[i];
    EACH(k, 4) extents[k] += (v->size[i] - 1) * (k == 1 ? v->first[i] : v->out[i]);
  }
  array out = unknown(extents[0]), operands[3];
  EACH(k, 3) {
    operands[k] = numbers(extents[k + 1]);
    /* No kinks, and nothing that a logarithm or a division does not take. */
    EACH(i, operands[k].size) {
      const double value = get(&operands[k], i);
      if (op <= FC_MAP_ACTIVATE_BACKWARD) set(&operands[k], i, kind >= FC_ACT_SQRT ? fabs(value) + 0.25 : value + 0.25);
      if ((op == FC_MAP_DIVIDE && k == 1) || (op == FC_MAP_DIVIDE_BACKWARD && k == 2)) set(&operands[k], i, value < 0 ? -2 : 4);
    }
  }
  double *expected = blank(extents[0]);
  EACH(n, count) {
    int64_t rest = n, place = 0, first = 0;
    for (int i = v->rank - 1; i >= 0; rest /= v->size[i], i--) {
      place += rest % v->size[i] * v->out[i];
      first += rest % v->size[i] * v->first[i];
    }
    expected[place] = map_of(op, &d.act, get(&operands[0], first), get(&operands[1], place), get(&operands[2], place));
  }
  const int used = operands_of(op);
  fc_plan *plan;
  if (fc_plan_map(&d, &plan)) fail("no plan for map %s", v->name);
  void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, 0));
  void *arrays[FC_SLOTS] = {[FC_X] = at(&operands[0]),
                            [FC_W] = used > 1 ? at(&operands[1]) : 0,
                            [FC_ADD] = used > 2 ? at(&operands[2]) : 0,
                            [FC_OUT] = at(&out)};
  if (fc_run(plan, arrays, workspace, nthreads)) fail("map %s failed", v->name);
  fc_plan_destroy(plan);
  free(workspace);
  char what[64];
  snprintf(what, sizeof what, "map %d, activation %d", op, kind);
  compare(&out, expected, op > FC_MAP_ACTIVATE_BACKWARD ? 0 : dtype == FC_F32 ? 2e-6 : op ? 1e-8 : 1e-14, 0, what, v->name);
  free(expected);
  done(&out);
  EACH(k, 3) done(&operands[k]);
}

/* Steps of optimizers on the same arrays: those that are remembered lie as the parameter does. */
static void check_update(const map *v, int rule, int remembered, int nesterov) {
  static const double n[8] = {0.5, 0.25, 0.75, 0.5, 0.25, 1, 2, 0};
  static const int slots[] = {FC_OUT, FC_X, FC_FIRST, FC_SECOND, FC_THIRD};
  fc_update_desc d = {.rule = rule, .nesterov = nesterov, .remembered = remembered, .types = ALIKE, .isa = isa, .rank = v->rank};
  int64_t count = 1, extent = 1, of_first = 1;
  EACH(i, v->rank) {
    d.size[i] = v->size[i];
    EACH(k, 5) d.stride[k][i] = k == 1 ? v->first[i] : v->out[i];
    count *= v->size[i];
    extent += (v->size[i] - 1) * v->out[i];
    of_first += (v->size[i] - 1) * v->first[i];
  }
  array arrays[5];
  double *expected[5];
  void *given[FC_SLOTS] = {[FC_NUMBERS] = (void *)n};
  EACH(k, 5) {
    arrays[k] = numbers(k == 1 ? of_first : extent);
    EACH(i, arrays[k].size)
      if (k == 2 && rule) set(&arrays[k], i, fabs(get(&arrays[k], i)) + 16);
    EACH(i, arrays[k].size)
      if (k == 3 && rule == FC_UPDATE_ADAM) set(&arrays[k], i, fabs(get(&arrays[k], i)));
    expected[k] = blank(arrays[k].size);
    EACH(i, arrays[k].size) expected[k][i] = get(&arrays[k], i);
    if (k < 2 || remembered >> (k - 2) & 1) given[slots[k]] = at(&arrays[k]);
  }
  EACH(e, count) {
    int64_t rest = e, p = 0, first = 0;
    for (int i = v->rank - 1; i >= 0; rest /= v->size[i], i--) {
      p += rest % v->size[i] * v->out[i];
      first += rest % v->size[i] * v->first[i];
    }
    double *a[5], w = n[2] * expected[0][p], g = expected[1][first] + n[1] * w, move = g;
    EACH(k, 5) a[k] = k >= 2 && remembered >> (k - 2) & 1 ? &expected[k][p] : 0;
    if (rule == FC_UPDATE_SGD && a[2]) {
      *a[2] = n[3] * *a[2] + g;
      move = nesterov ? g + n[3] * *a[2] : *a[2];
    } else if (rule == FC_UPDATE_ADAM) {
      *a[2] += n[3] * (g - *a[2]);
      *a[3] += n[4] * (g * g - *a[3]);
      move = *a[2] / (sqrt(*a[3]) * n[6] + n[5]);
    } else if (rule == FC_UPDATE_RMSPROP) {
      *a[2] += n[4] * (g * g - *a[2]);
      if (a[3]) *a[3] += n[4] * (g - *a[3]);
      move = g / (sqrt(fmax(*a[2] - (a[3] ? *a[3] * *a[3] : 0), 0)) + n[5]);
      if (a[4]) move = *a[4] = n[3] * *a[4] + move;
    }
    expected[0][p] = w - n[0] * move;
  }
  fc_plan *plan;
  if (fc_plan_update(&d, &plan)) fail("no plan for update of %s", v->name);
  if (fc_run(plan, given, 0, 2)) fail("update of %s failed", v->name);
  fc_plan_destroy(plan);
  char what[64];
  snprintf(what, sizeof what, "update %d, remembered %d", rule, remembered);
  EACH(k, 5) {
    if (k != 1) compare(&arrays[k], expected[k], dtype == FC_F32 ? 1e-5 : 1e-13, 0, what, v->name);
    free(expected[k]);
    done(&arrays[k]);
  }
}

static void check_updates(void) {
  EACH(i, (int64_t)(sizeof maps / sizeof *maps)) {
    EACH(nesterov, 2) check_update(&maps[i], FC_UPDATE_SGD, 1, (int)nesterov);
    check_update(&maps[i], FC_UPDATE_SGD, 0, 0);
    check_update(&maps[i], FC_UPDATE_ADAM, 3, 0);
    for (int remembered = 1; remembered < 8; remembered += 2) check_update(&maps[i], FC_UPDATE_RMSPROP, remembered, 0);
  }
}

/* Losses of the same arrays, x being the first operand; or their sum divided by 4, or their gradients. */
static void check_loss(const map *v, int kind, int direction, int reduced, int factors) {
  static const int slots[] = {FC_X, FC_TARGET, FC_FIRST, FC_SECOND, FC_Y, FC_DX};
  fc_loss_desc d = {.kind = kind, .direction = direction, .reduced = reduced, .factors = factors, .types = ALIKE, .isa = isa};
  const int result = direction ? 5 : 4;
  int64_t count = 1, extents[6] = {1, 1, 1, 1, 1, 1};
  d.rank = v->rank;
  d.p0 = 2;
  d.divisor = 4;
  EACH(i, v->rank) {
    d.size[i] = v->size[i];
    count *= v->size[i];
    EACH(k, 6) {
      d.stride[k][i] = k == 0 ? v->first[i] : v->out[i];
      extents[k] += k == result && reduced ? 0 : (v->size[i] - 1) * d.stride[k][i];
    }
  }
  array arrays[6];
  void *given[FC_SLOTS] = {0};
  EACH(k, 6) {
    arrays[k] = k == result ? unknown(extents[k]) : numbers(extents[k]);
    /* x between 0 and 1, and no target where a loss has a kink. */
    EACH(i, k < 2 ? extents[k] : 0) {
      const double value = fmod(fabs(get(&arrays[k], i)), 3);
      set(&arrays[k], i, k == 0 ? 0.25 + value / 4 : 0.375 + value);
    }
    if (k < 2 || k == 4 || k == result || (k < 4 && factors >> (k - 2) & 1)) given[slots[k]] = at(&arrays[k]);
  }
  double *expected = blank(extents[result]), sum = 0;
  EACH(e, count) {
    int64_t rest = e, place = 0, first = 0;
    for (int i = v->rank - 1; i >= 0; rest /= v->size[i], i--) {
      place += rest % v->size[i] * v->out[i];
      first += rest % v->size[i] * v->first[i];
    }
    const double x = get(&arrays[0], first), t = get(&arrays[1], place), p = factors & 2 ? get(&arrays[3], place) : 1;
    const double made = direction ? slope_of_loss(kind, x, t, p) * get(&arrays[4], place) : loss_of(kind, x, t, p);
    const double value = factors & 1 ? made * get(&arrays[2], place) : made;
    sum += value;
    if (!reduced) expected[place] = value;
  }
  if (reduced) expected[0] = sum / 4;
  fc_plan *plan;
  if (fc_plan_loss(&d, &plan)) fail("no plan for loss of %s", v->name);
  void *workspace = allocate((size_t)fc_plan_workspace(plan, 2, 0));
  if (fc_run(plan, given, workspace, 2)) fail("loss of %s failed", v->name);
  fc_plan_destroy(plan);
  free(workspace);
  char what[64];
  snprintf(what, sizeof what, "loss %d, factors %d", kind, factors);
  compare(&arrays[result], expected, dtype == FC_F32 ? 1e-5 : 1e-7, 0, what, v->name);
  free(expected);
  EACH(k, 6) done(&arrays[k]);
}

static void check_losses(void) {
  EACH(i, (int64_t)(sizeof maps / sizeof *maps))
    for (int kind = FC_LOSS_MSE; kind <= FC_LOSS_CLASSES; kind++) {
      const int classes = kind == FC_LOSS_CLASSES;
      EACH(reduced, classes ? 0 : 2) check_loss(&maps[i], kind, FC_FWD, (int)reduced, (int)i & 1);
      check_loss(&maps[i], kind, FC_BWD_INPUT, 0, classes ? 2 : kind == FC_LOSS_BINARY_LOGITS ? 3 : (int)i & 1);
    }
}

/* Random number k of Philox4x32-10. */
static uint32_t random_number(int64_t k, uint64_t random_seed, uint64_t random_offset) {
  uint32_t c[4] = {(uint32_t)(k / 4), 0, (uint32_t)random_offset, (uint32_t)(random_offset >> 32)};
  uint32_t key[2] = {(uint32_t)random_seed, (uint32_t)(random_seed >> 32)};
  EACH(round, 10) {
    const uint64_t a = UINT64_C(0xd2511f53) * c[0], b = UINT64_C(0xcd9e8d57) * c[2];
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ key[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ key[1], (uint32_t)a};
    memcpy(c, next, sizeof c);
    key[0] += 0x9e3779b9;
    key[1] += 0xbb67ae85;
  }
  return c[k % 4];
}

/* Elements are numbered in row-major order, a step from one to the next. */
static void check_dropout(const map *v, int64_t step, int nthreads) {
  fc_map_desc d = {.op = FC_MAP_DROPOUT, .types = ALIKE, .isa = isa, .rank = v->rank, .p = 0.75};
  int64_t count = 1, extent = 1, x_extent = 1;
  for (int i = v->rank - 1; i >= 0; count *= v->size[i--]) {
    d.size[i] = v->size[i];
    d.out_stride[i] = v->out[i];
    d.stride[0][i] = v->first[i];
    d.stride[1][i] = count * step;
    extent += (v->size[i] - 1) * v->out[i];
    x_extent += (v->size[i] - 1) * v->first[i];
  }
  array x = numbers(x_extent), out = unknown(extent);
  uint64_t random[2] = {UINT64_C(0x123456789abcdef), UINT64_C(0xfedcba987654321)};
  double *expected = blank(extent);
  EACH(n, count) {
    int64_t rest = n, place = 0, first = 0;
    for (int i = v->rank - 1; i >= 0; rest /= v->size[i], i--) {
      place += rest % v->size[i] * v->out[i];
      first += rest % v->size[i] * v->first[i];
    }
    expected[place] = random_number(n * step, random[0], random[1]) < 0.75 * 0x1p32 ? 0 : 4 * get(&x, first);
  }
  fc_plan *plan;
  if (fc_plan_map(&d, &plan)) fail("no plan for dropout of %s", v->name);
  void *arrays[FC_SLOTS] = {[FC_X] = at(&x), [FC_W] = random, [FC_OUT] = at(&out)};
  if (fc_run(plan, arrays, 0, nthreads)) fail("dropout of %s failed", v->name);
  fc_plan_destroy(plan);
  compare(&out, expected, 0, 0, "dropout", v->name);
  free(expected);
  done(&out);
  done(&x);
}

static void check_maps(void) {
  EACH(i, (int64_t)(sizeof maps / sizeof *maps)) {
    EACH(kind, FC_ACT_ERF + 1) {
      check_map(&maps[i], FC_MAP_ACTIVATE, (int)kind, 2);
      check_map(&maps[i], FC_MAP_ACTIVATE_BACKWARD, (int)kind, 1);
    }
    for (int op = FC_MAP_ADD; op <= FC_MAP_MINIMUM_BACKWARD; op++) check_map(&maps[i], op, FC_ACT_NONE, op % 3 + 1);
    EACH(step, 4) check_dropout(&maps[i], step, (int)step);
  }
}

/* ----------------------------------------------------------------------------------------------------- resizing */

/* Images, and sizes of results. */
typedef struct resizing {
  const char *name;
  int64_t n, c, x_size[3], y_size[3];
} resizing;

static const resizing resizings[] = {
    {"a pixel", 1, 1, {1, 1, 1}, {1, 1, 1}},        {"lines", 3, 5, {1, 1, 7}, {1, 1, 19}},
    {"an image", 1, 1, {1, 9, 21}, {1, 5, 40}},     {"few rows of a long line", 1, 3, {1, 2, 900}, {1, 3, 700}},
    {"many channels", 2, 67, {1, 3, 4}, {1, 5, 3}}, {"volumes", 2, 18, {3, 2, 5}, {2, 5, 4}},
};

/* A table of an axis: sums of up to most terms, none too. */
static void some_table(int64_t x_size, int64_t y_size, int most, int64_t **first, int64_t **index, double **weight) {
  *first = allocate((size_t)(y_size + 1) * 8);
  *index = allocate((size_t)(y_size * most) * 8);
  *weight = allocate((size_t)(y_size * most) * 8);
  (*first)[0] = 0;
  EACH(o, y_size) (*first)[o + 1] = (*first)[o] + (small() + 3) % (most + 1);
  EACH(i, (*first)[y_size]) {
    (*index)[i] = (i / most * x_size / y_size + small() + 3 + x_size) % x_size;
    (*weight)[i] = small() * 0.5;
  }
}

static void check_resizing(const resizing *v, int x_layout, int y_layout, int most, int still, int nthreads) {
  fc_resize_desc d = {.types = ALIKE, .isa = isa, .n = v->n, .c = v->c};
  memcpy(d.x_size, v->x_size, sizeof d.x_size);
  memcpy(d.y_size, v->y_size, sizeof d.y_size);
  int64_t *first[3], *index[3];
  double *weight[3];
  EACH(i, 3) {
    some_table(v->x_size[i], v->y_size[i], most, &first[i], &index[i], &weight[i]);
    const int stays = i == still && v->x_size[i] == v->y_size[i];
    d.first[i] = stays ? 0 : first[i];
    d.index[i] = index[i];
    d.weight[i] = weight[i];
    EACH(o, stays ? v->y_size[i] : 0) {
      first[i][o + 1] = o + 1;
      index[i][o] = o;
      weight[i][o] = 1;
    }
  }
  array x = numbers(lay_out(x_layout, v->n, v->c, v->x_size, d.x_stride));
  array y = unknown(lay_out(y_layout, v->n, v->c, v->y_size, d.y_stride));
  double *expected = blank(y.size);
  EACH(n, v->n)
    EACH(c, v->c)
      EACH(od, v->y_size[0])
        EACH(oh, v->y_size[1])
          EACH(ow, v->y_size[2]) {
            double sum = 0;
            for (int64_t a = first[0][od]; a < first[0][od + 1]; a++)
              for (int64_t b = first[1][oh]; b < first[1][oh + 1]; b++)
                for (int64_t t = first[2][ow]; t < first[2][ow + 1]; t++)
                  sum += weight[0][a] * weight[1][b] * weight[2][t] *
                         get(&x, offset(d.x_stride, n, c, index[0][a], index[1][b], index[2][t]));
            expected[offset(d.y_stride, n, c, od, oh, ow)] = sum;
          }
  fc_plan *plan;
  if (fc_plan_resize(&d, &plan)) fail("no plan for resizing %s", v->name);
  EACH(i, 3) { /* the plan has copies */
    free(first[i]);
    free(index[i]);
    free(weight[i]);
  }
  void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, 0));
  void *arrays[FC_SLOTS] = {[FC_X] = at(&x), [FC_Y] = at(&y)};
  if (fc_run(plan, arrays, workspace, nthreads)) fail("resizing %s failed", v->name);
  fc_plan_destroy(plan);
  free(workspace);
  compare(&y, expected, 0, 0, layouts[x_layout], v->name);
  free(expected);
  done(&x);
  done(&y);
}

static void check_resizings(void) {
  EACH(i, (int64_t)(sizeof resizings / sizeof *resizings))
    EACH(x_layout, LAYOUTS)
      EACH(y_layout, LAYOUTS)
        EACH(most, 4)
          if (most) check_resizing(&resizings[i], (int)x_layout, (int)y_layout, (int)most, (int)(x_layout + y_layout) % 4, most);
}

/* ----------------------------------------------------------------------------------------------------- copies */

/* Sizes of x, what comes before and after it, and the strides of x and of the padded array. */
typedef struct copied {
  const char *name;
  int rank;
  int64_t size[4], before[4], after[4], x[4], padded[4];
} copied;

static const copied copies[] = {
    {"a number", 0, {0}, {0}, {0}, {0}, {0}},
    {"a long row", 1, {40013}, {0}, {0}, {1}, {1}},
    {"every second element", 1, {1301}, {3}, {2}, {2}, {2}},
    {"turned", 3, {3, 37, 51}, {0}, {0}, {37 * 51, 1, 37}, {37 * 51, 51, 1}},
    {"turned, much", 2, {700, 900}, {0}, {0}, {1, 700}, {900, 1}},
    {"woven", 3, {2, 45, 3}, {0}, {0}, {135, 1, 45}, {135, 3, 1}},
    {"unwoven", 3, {2, 4, 45}, {0}, {0}, {180, 1, 4}, {180, 45, 1}},
    {"a frame around planes", 3, {5, 6, 19}, {0, 1, 2}, {0, 2, 1}, {114, 19, 1}, {198, 22, 1}},
    {"a frame around pixels", 3, {6, 7, 5}, {2, 3, 0}, {1, 2, 0}, {35, 5, 1}, {60, 5, 1}},
    {"padded and cropped", 2, {9, 20}, {-2, 4}, {3, -5}, {1, 9}, {19, 1}},
    {"backwards, and far apart", 3, {4, 5, 6}, {1, 1, 1}, {1, 1, 1}, {-30, 6, -1}, {1, -8, 64}},
};

/* The elements between the first and the last, and how far before the first of index 0 they begin. */
static int64_t extent_of(int rank, const int64_t *size, const int64_t *stride, int64_t *below) {
  int64_t extent = 1;
  *below = 0;
  EACH(i, rank) {
    extent += (size[i] - 1) * llabs(stride[i]);
    if (stride[i] < 0) *below += (size[i] - 1) * -stride[i];
  }
  return extent;
}

static void check_copy(const copied *v, int mode, int backward, int nthreads) {
  int64_t padded[4], count = 1, below[2];
  EACH(i, v->rank) count *= padded[i] = v->size[i] + v->before[i] + v->after[i];
  const int64_t extents[2] = {extent_of(v->rank, v->size, v->x, &below[0]), extent_of(v->rank, padded, v->padded, &below[1])};
  fc_copy_desc d = {.types = ALIKE, .direction = backward ? FC_BWD_INPUT : FC_FWD, .isa = isa, .rank = v->rank, .mode = mode};
  EACH(i, v->rank) {
    d.size[i] = v->size[i];
    d.before[i] = v->before[i];
    d.after[i] = v->after[i];
    d.x_stride[i] = backward ? v->padded[i] : v->x[i];
    d.out_stride[i] = backward ? v->x[i] : v->padded[i];
  }
  const float five = 5;
  const double as_double = 5;
  memcpy(d.value, dtype == FC_F32 ? (const void *)&five : &as_double, dtype == FC_F32 ? 4 : 8);
  array in = numbers(extents[backward]), out = unknown(extents[!backward]);
  double *expected = blank(extents[!backward]);
  EACH(pass, backward ? 2 : 1)
    EACH(n, count) {
      int64_t rest = n, place = below[1], of_x = below[0];
      int outside = 0;
      for (int i = v->rank - 1; i >= 0; rest /= padded[i], i--) {
        const int64_t from = padded_from(mode, rest % padded[i] - v->before[i], v->size[i]);
        place += rest % padded[i] * v->padded[i];
        of_x += from * v->x[i];
        outside |= from < 0;
      }
      if (!backward)
        expected[place] = outside ? 5 : get(&in, of_x);
      else if (!outside)
        expected[of_x] = pass ? expected[of_x] + get(&in, place) : 0;
    }
  if (backward) { /* what was copied nowhere receives the value */
    int64_t all = 1;
    EACH(i, v->rank) all *= v->size[i];
    EACH(n, all) {
      int64_t rest = n, of_x = below[0];
      for (int i = v->rank - 1; i >= 0; rest /= v->size[i], i--) of_x += rest % v->size[i] * v->x[i];
      if (isnan(expected[of_x])) expected[of_x] = 5;
    }
  }
  const int64_t es = dtype == FC_F32 ? 4 : 8;
  void *arrays[FC_SLOTS] = {[FC_X] = (char *)at(&in) + below[backward] * es, [FC_OUT] = (char *)at(&out) + below[!backward] * es};
  fc_plan *plan;
  if (fc_plan_copy(&d, &plan)) {
    fail("no plan for copy %s, mode %d", v->name, mode);
  } else {
    if (fc_run(plan, arrays, 0, nthreads)) fail("copy %s failed", v->name);
    char what[64];
    snprintf(what, sizeof what, "copy, mode %d, %s", mode, backward ? "backward" : "forward");
    compare(&out, expected, 0, 0, what, v->name);
  }
  fc_plan_destroy(plan);
  free(expected);
  done(&in);
  done(&out);
}

static void check_copies(void) {
  EACH(i, (int64_t)(sizeof copies / sizeof *copies))
    for (int mode = FC_PAD_CONSTANT; mode <= FC_PAD_CIRCULAR; mode++) {
      check_copy(&copies[i], mode, 0, mode % 3 + 1);
      check_copy(&copies[i], mode, 1, mode % 2 + 1);
    }
}

/* --------------------------------------------------------------------------------------------------- poolings */

typedef struct pool {
  const char *name;
  int64_t n, c, in[3], ker[3], stride[3], pad[3], dil[3];
} pool;

static const pool pools[] = {
    {"2x2", 2, 5, FLAT(8, 10), FLAT(2, 2), FLAT(2, 2), {0, 0, 0}, ONES},
    {"3x3 of stride 2", 1, 19, FLAT(11, 37), FLAT(3, 3), FLAT(2, 2), {0, 1, 1}, ONES},
    {"3x3 of stride 1", 1, 8, FLAT(9, 35), FLAT(3, 3), ONES, {0, 1, 1}, ONES},
    {"3x2 of stride 3", 2, 7, FLAT(11, 13), FLAT(3, 2), FLAT(3, 3), {0, 1, 0}, ONES},
    {"dilation", 1, 6, FLAT(12, 21), FLAT(3, 3), FLAT(1, 2), {0, 1, 1}, FLAT(2, 2)},
    {"7x7", 1, 33, FLAT(7, 7), FLAT(7, 7), ONES, {0, 0, 0}, ONES},
    {"9x9 of stride 1", 1, 17, FLAT(15, 16), FLAT(9, 9), ONES, {0, 4, 4}, ONES},
    {"volume", 1, 4, {5, 6, 9}, {2, 3, 2}, {2, 2, 2}, {1, 1, 1}, ONES},
    {"one row", 2, 3, FLAT(1, 50), FLAT(1, 4), FLAT(1, 2), {0, 0, 1}, ONES},
};

static void check_pool(const pool *v, int layout, int kind, int direction, int indices, int nthreads) {
  fc_pool_desc d = {.kind = kind, .direction = direction, .types = ALIKE, .isa = isa, .indices = indices, .n = v->n, .c = v->c};
  int64_t *windows[3];
  EACH(i, 3) {
    d.x_size[i] = v->in[i];
    d.dil[i] = v->dil[i];
    d.ker[i] = v->ker[i];
    d.stride[i] = v->stride[i];
    d.pad[i] = v->pad[i];
    d.y_size[i] = (v->in[i] + 2 * v->pad[i] - v->dil[i] * (v->ker[i] - 1) - 1) / v->stride[i] + 1;
    d.pad_end[i] = v->pad[i];
    windows[i] = allocate((size_t)d.y_size[i] * 3 * sizeof **windows);
    EACH(o, d.y_size[i]) {
      int64_t start = o * v->stride[i] - v->pad[i], end = start + v->dil[i] * (v->ker[i] - 1) + 1, count = 0;
      while (start < 0) start += v->dil[i];
      if (end > v->in[i]) end = v->in[i];
      for (int64_t p = start; p < end; p += v->dil[i]) count++;
      memcpy(windows[i] + 3 * o, (int64_t[]){start, end, count}, 3 * sizeof **windows);
    }
  }
  const int64_t nx = lay_out(layout, d.n, d.c, d.x_size, d.x_stride), ny = lay_out(layout, d.n, d.c, d.y_size, d.y_stride);
  memcpy(d.dx_stride, d.x_stride, sizeof d.dx_stride);
  memcpy(d.indices_stride, d.y_stride, sizeof d.indices_stride);
  array x = numbers(nx), y = direction == FC_FWD ? unknown(ny) : numbers(ny), dx = unknown(nx);
  int64_t *places = allocate((size_t)ny * sizeof *places), *found = allocate((size_t)ny * sizeof *found);
  EACH(i, ny) places[i] = found[i] = -7;
  double *up = blank(ny), *down = blank(nx);
  EACH(n, d.n)
    EACH(c, d.c)
      EACH_PIXEL(d.x_size, i, j, k) down[offset(d.x_stride, n, c, i, j, k)] = 0;
  EACH(n, d.n)
    EACH(c, d.c)
      EACH_PIXEL(d.y_size, i, j, k) {
        const int64_t *a = windows[0] + 3 * i, *b = windows[1] + 3 * j, *e = windows[2] + 3 * k,
                      o = offset(d.y_stride, n, c, i, j, k);
        const double share = kind == FC_AVG ? (double)(a[2] * b[2] * e[2]) : 1;
        double sum = 0, most = -INFINITY;
        int64_t best = -1;
        for (int64_t p = a[0]; p < a[1]; p += d.dil[0])
          for (int64_t q = b[0]; q < b[1]; q += d.dil[1])
            for (int64_t r = e[0]; r < e[1]; r += d.dil[2]) {
              const int64_t at_x = offset(d.x_stride, n, c, p, q, r);
              sum += get(&x, at_x);
              if (get(&x, at_x) > most) {
                most = get(&x, at_x);
                best = at_x;
                places[o] = (p * d.x_size[1] + q) * d.x_size[2] + r;
              }
              if (direction != FC_FWD && kind != FC_MAX) down[at_x] += get(&y, o) / share;
            }
        if (direction != FC_FWD && kind == FC_MAX) down[best] += get(&y, o);
        up[o] = kind == FC_MAX ? most : sum / share;
      }
  char what[200];
  snprintf(what, sizeof what, "%s, %s, kind %d, indices %d, %d threads", v->name, layouts[layout], kind, indices, nthreads);
  fc_plan *plan;
  if (fc_plan_pool(&d, &plan)) {
    fail("no plan for pooling %s", what);
  } else {
    void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, 0));
    const double tolerance = kind == FC_AVG ? (dtype == FC_F32 ? 1e-6 : 1e-14) : 0;
    void *arrays[FC_SLOTS] = {[FC_X] = at(&x), [FC_Y] = at(&y), [FC_DX] = at(&dx)};
    if (indices) arrays[FC_INDICES] = direction == FC_FWD ? found : places;
    if (direction != FC_FWD && indices) arrays[FC_X] = 0;
    const int status = fc_run(plan, arrays, workspace, nthreads);
    if (status) fail("pooling %s failed", what);
    if (direction == FC_FWD)
      compare(&y, up, tolerance, 0, "pooling", what);
    else
      compare(&dx, down, 4 * tolerance, 0, "gradient of pooling", what);
    if (direction == FC_FWD && indices && memcmp(found, places, (size_t)ny * sizeof *found)) fail("indices of pooling %s", what);
    free(workspace);
    fc_plan_destroy(plan);
  }
  EACH(i, 3) free(windows[i]);
  free(places);
  free(found);
  free(up);
  free(down);
  array *all[] = {&x, &y, &dx};
  EACH(i, 3) done(all[i]);
}

static void check_pools(void) {
  EACH(i, (int64_t)(sizeof pools / sizeof *pools))
    EACH(layout, LAYOUTS)
      EACH(direction, 2)
        EACH(kind, pools[i].dil[2] > 1 ? 1 : 3)
          EACH(indices, kind == FC_MAX ? 2 : 1)
            check_pool(&pools[i], (int)layout, (int)kind, (int)direction, (int)indices, i % 3 + 1);
}

/* ------------------------------------------------------------------------------------------------- reductions */

/* Sizes of three axes, and which are reduced. */
typedef struct reduction {
  const char *name;
  int64_t size[3];
  int reduced;
} reduction;

static const reduction reductions[] = {
    {"one element", {1, 1, 1}, 7}, {"rows", {3, 5, 37}, 4},        {"columns", {3, 37, 21}, 2}, {"planes", {5, 4, 49}, 5},
    {"channels", {9, 7, 19}, 3},   {"short rows", {2, 150, 3}, 4}, {"nothing", {3, 4, 20}, 0},  {"everything", {3, 7, 11}, 7},
    {"long", {1, 2, 20011}, 4},    {"tall", {9001, 1, 9}, 1},      {"middle", {2, 700, 18}, 2},
};

enum { SLOTS = 11, OUT = 6 };

/* The arrays of each kind, by bits. */
static const int slots[] = {0x101, 0x301, 0x301, 0x301, 0x07d, 0x771, 0x37f, 0x31f, 0x041, 0x041, 0x043, 0x043};

/* What one group of n elements is reduced to, whose numbers are v[slot][k]. */
typedef struct totals {
  double sum, mean, squares, most, place, exps, of_g, of_gh, dot;
} totals;

static totals reduce_group(const fc_reduce_desc *d, double *const v[SLOTS], int64_t n) {
  totals t = {.most = -HUGE_VAL};
  EACH(k, n) t.sum += v[0][k];
  t.mean = d->root_mean_square ? 0 : t.sum / (double)n;
  EACH(k, n) {
    const double x = d->kind == FC_MIN_OVER ? -v[0][k] : v[0][k], g = v[0][k] * v[4][k];
    t.squares += (v[0][k] - t.mean) * (v[0][k] - t.mean);
    if (x > t.most) {
      t.most = x;
      t.place = (double)k;
    }
    t.of_g += g;
    t.of_gh += g * (v[1][k] - v[2][k]) * v[3][k];
    t.dot += v[0][k] * v[1][k];
  }
  EACH(k, n) t.exps += exp(v[0][k] - t.most);
  return t;
}

/* What a result is, of the group or at its element i. */
static double reduced_value(const fc_reduce_desc *d, double *const v[SLOTS], const totals *t, double n, int slot, int64_t i) {
  const double x = v[0][i], rstd = 1 / sqrt(t->squares / n + d->p0), h = (v[1][i] - v[2][i]) * v[3][i];
  switch (d->kind) {
  case FC_SUM_OVER: return t->sum / d->p0;
  case FC_MOMENTS_OVER: return slot == 8 ? t->mean : t->squares / fmax(n - d->p0, 0);
  case FC_MAX_OVER: return slot == 8 ? t->most : t->place;
  case FC_MIN_OVER: return slot == 8 ? -t->most : t->place;
  case FC_AFFINE: return (x - v[2][i]) * v[3][i] * v[4][i] + v[5][i];
  case FC_NORMALIZE:
    return slot == 6 ? (x - t->mean) * rstd * v[4][i] + v[5][i] : slot == 8 ? t->mean : slot == 9 ? rstd : t->squares / n;
  case FC_NORMALIZE_BACKWARD:
    if (slot == 6) return (x * v[4][i] - (d->root_mean_square ? 0 : t->of_g / n) - h * t->of_gh / n) * v[3][i] * v[5][i];
    return slot == 8 ? t->of_g : t->of_gh;
  case FC_NORMALIZE_SUMS: return slot == 8 ? t->of_g : t->of_gh;
  case FC_SOFTMAX: return exp(x - t->most) / t->exps;
  case FC_LOG_SOFTMAX: return x - t->most - log(t->exps);
  case FC_SOFTMAX_BACKWARD: return v[1][i] * (x - t->dot);
  default: return x - exp(v[1][i]) * t->sum;
  }
}

/* order: the axes from the outermost in memory; gap: elements from one to the next. few: operands after the second have one
 * number for all elements of a group. */
static void check_reduction(const reduction *r, int kind, const int order[3], int64_t gap, int few, int nthreads) {
  fc_reduce_desc d = {.kind = kind, .types = ALIKE, .isa = isa, .rank = 3, .reduced = r->reduced, .present = slots[kind]};
  d.p0 = kind == FC_SUM_OVER ? 2 : 0.5;
  d.root_mean_square = few && kind >= FC_NORMALIZE && kind <= FC_NORMALIZE_BACKWARD;
  memcpy(d.size, r->size, sizeof r->size);
  array arrays[SLOTS] = {{0}};
  void *memory[FC_SLOTS] = {0};
  double *expected[SLOTS] = {0};
  int64_t *places = 0, groups = 1, n = 1;
  EACH(i, 3) *(r->reduced >> i & 1 ? &n : &groups) *= r->size[i];
  EACH(s, SLOTS) {
    if (!(d.present >> s & 1)) continue;
    int64_t step = gap;
    for (int i = 2; i >= 0; i--) {
      const int axis = order[i], one = r->reduced >> axis & 1 && (s > OUT || (s > 1 && s < OUT && few));
      d.stride[s][axis] = one ? 0 : step;
      if (!one) step *= r->size[axis];
    }
    arrays[s] = s < OUT ? numbers(step) : unknown(step);
    memory[s] = at(&arrays[s]);
    if (s >= OUT) expected[s] = blank(step);
  }
  if (kind == FC_MAX_OVER || kind == FC_MIN_OVER) {
    places = allocate((size_t)(groups * gap) * 8);
    EACH(i, groups * gap) places[i] = -1;
    memory[9] = places;
  }
  double *v[SLOTS];
  EACH(s, SLOTS) v[s] = blank(n);
  EACH(group, groups) {
    totals t = {0};
    EACH(pass, 2) {
      EACH(k, n) {
        int64_t from[SLOTS] = {0}, g = group, e = k;
        for (int i = 2; i >= 0; i--) {
          int64_t *counter = r->reduced >> i & 1 ? &e : &g;
          EACH(s, SLOTS) from[s] += *counter % r->size[i] * d.stride[s][i];
          *counter /= r->size[i];
        }
        EACH(s, SLOTS) {
          const int neutral = s == 3 || s == 4 || (s == 5 && kind == FC_NORMALIZE_BACKWARD);
          if (!pass && s < OUT) v[s][k] = d.present >> s & 1 ? get(&arrays[s], from[s]) : neutral;
          if (pass && expected[s] && (s == OUT || k == 0)) expected[s][from[s]] = reduced_value(&d, v, &t, (double)n, (int)s, k);
        }
      }
      t = reduce_group(&d, v, n);
    }
  }
  fc_plan *plan = 0;
  if (fc_plan_reduce(&d, &plan)) {
    fail("kind %d over %s: no plan", kind, r->name);
  } else {
    void *workspace = allocate((size_t)fc_plan_workspace(plan, nthreads, 0));
    if (fc_run(plan, memory, workspace, nthreads)) fail("kind %d over %s failed", kind, r->name);
    char what[40];
    snprintf(what, sizeof what, "kind %d", kind);
    /* A gradient is a difference of numbers ten times as large, which are made in the elements' type. */
    const double f32 = kind == FC_NORMALIZE_BACKWARD ? 2e-5 : 2e-6;
    const double tolerance = kind <= FC_MIN_OVER && kind != FC_MOMENTS_OVER ? 0 : dtype == FC_F32 ? f32 : 1e-11;
    EACH(s, SLOTS) {
      if (!expected[s]) continue;
      if (s == 9 && places) {
        EACH(i, groups * gap)
          if (isnan(expected[s][i]) ? places[i] != -1 : (double)places[i] != expected[s][i]) {
            fail("place %lld over %s is %lld, expected %g", (long long)i, r->name, (long long)places[i], expected[s][i]);
            break;
          }
        continue;
      }
      compare(&arrays[s], expected[s], tolerance, 0, what, r->name);
    }
    free(workspace);
    fc_plan_destroy(plan);
  }
  free(places);
  EACH(s, SLOTS) {
    free(v[s]);
    free(expected[s]);
    done(&arrays[s]);
  }
}

static void check_reductions(void) {
  static const int orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}};
  EACH(i, (int64_t)(sizeof reductions / sizeof *reductions))
    EACH(kind, (int64_t)(sizeof slots / sizeof *slots))
      EACH(order, 3)
        EACH(few, 2)
          check_reduction(&reductions[i], (int)kind, orders[order], 1 + (i + kind + order) % 2, (int)few, (int)i % 3 + 1);
}

/* --------------------------------------------------------------------------------------------------- programs */

/* A product and another one of its result, in one program: what is to come out is sums of whole numbers. */
static void check_program(int nthreads) {
  enum { M = 5, K = 9, N = 33, L = 7 };
  fc_gemm_desc d = {.types = ALIKE,
                    .isa = isa,
                    .batch = 1,
                    .m = M,
                    .n = N,
                    .k = K,
                    .a_stride = {0, K, 1},
                    .b_stride = {0, N, 1},
                    .out_stride = {0, N, 1},
                    .alpha = 1};
  fc_plan *plans[2] = {0};
  int status = fc_plan_gemm(&d, &plans[0]);
  fc_gemm_desc next = d;
  next.k = N;
  next.n = L;
  next.a_stride[1] = N;
  next.b_stride[1] = next.out_stride[1] = L;
  if (!status) status = fc_plan_gemm(&next, &plans[1]);
  array a = numbers(M * K), b = numbers(K * N), c = numbers(N * L), between = unknown(M * N), out = unknown(M * L);
  double *expected = blank(M * L);
  EACH(i, M)
    EACH(j, L) {
      expected[i * L + j] = 0;
      EACH(x, N)
        EACH(y, K) expected[i * L + j] += get(&a, i * K + y) * get(&b, y * N + x) * get(&c, x * L + j);
    }
  /* The middle one is found behind a border of its buffer. */
  const int64_t margin = MARGIN * (dtype == FC_F32 ? 4 : 8);
  void *buffers[] = {at(&a), at(&b), at(&c), between.memory, at(&out)};
  fc_step steps[2];
  for (int i = 0; i < 2; i++) {
    steps[i] = (fc_step){.plan = plans[i]};
    for (int k = 0; k < FC_SLOTS; k++) steps[i].buffer[k] = -1;
    steps[i].buffer[FC_A] = i ? 3 : 0;
    steps[i].buffer[FC_B] = 1 + i;
    steps[i].buffer[FC_OUT] = 3 + i;
    steps[i].offset[i ? FC_A : FC_OUT] = margin;
  }
  void *workspace = allocate((size_t)fc_steps_workspace(steps, 2, nthreads));
  if (status || fc_run_steps(steps, 2, buffers, 5, workspace, nthreads)) fail("a program of two products failed");
  compare(&out, expected, 0, 0, "two products", "a program");
  free(workspace);
  free(expected);
  for (int i = 0; i < 2; i++) fc_plan_destroy(plans[i]);
  array *all[] = {&a, &b, &c, &between, &out};
  EACH(i, 5) done(all[i]);
}

/* ------------------------------------------------------------------------------------------------------- main */

static int named(int count, char **names) {
  for (int i = 0; i < count; i++)
    if (!strcmp(names[i], fc_isa_name(isa))) return 1;
  return 0;
}

int main(int count, char **names) {
  int asked = 0, worst = 0;
  for (isa = 0; isa < fc_isa_count(); isa++) {
    const char *reason = fc_isa_reason(isa);
    const int wanted = named(count - 1, names + 1);
    asked += wanted;
    if (count > 1 && !wanted) continue;
    if (reason) {
      printf("%s: not run, %s\n", fc_isa_name(isa), reason);
      worst |= wanted;
      continue;
    }
    failures = checks = 0;
    for (dtype = FC_F32; dtype <= FC_F64; dtype++) {
      seed = 1;
      check_convs();
      check_products();
      check_maps();
      check_updates();
      check_losses();
      check_copies();
      check_pools();
      check_reductions();
      check_resizings();
      check_program(1);
      check_program(3);
    }
    printf("%s: %d results, %d failures\n", fc_isa_name(isa), checks, failures);
    worst |= failures > 0;
  }
  if (asked < count - 1) {
    printf("an instruction set that was named is not in this binary\n");
    worst = 1;
  }
  return worst;
}
