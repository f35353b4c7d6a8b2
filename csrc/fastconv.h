/* fastconv: convolution, pooling and GEMM kernels. The public C ABI, usable from any language; cffi reads exactly this file.
 *
 * Nothing here prints, aborts, or keeps mutable state besides the thread pool. Functions that can fail return a status; a
 * description (desc) that is none, and an array or a workspace missing where there must be one, are FC_ERROR_ARGUMENT. One of
 * types that there are no kernels for is FC_ERROR_UNSUPPORTED.
 *
 * Sizes and strides are in elements. Arrays of three run over d, h, w: lower ranks have size 1 in front. A pointer to an array
 * is to its first element, the one of index 0 in each dimension, whatever the signs of the strides. Strides of what is read
 * may be anything, 0 too; no two elements of a result may share a place, and none may lie in an operand. The library cannot
 * know how long arrays are: that they have the elements which sizes and strides speak of is the caller's to answer for.
 *
 * nthreads is the number of threads that a call may use, the caller's among them: below 1 counts as 1, above 256 as 256. A
 * workspace has the bytes that the function of that name returned for the same number, and any alignment; its contents are
 * undefined before and after. A plan is not changed by its calls: threads may share it. All functions may be called at any time
 * from any thread.
 *
 * A call: describe what is to be computed in a desc, make a plan of it, ask how much workspace it needs, put the addresses of
 * the arrays into their slots, and run. tests/abi_driver.c does it, with the shared library that Python's extension is.
 */
#ifndef FASTCONV_H
#define FASTCONV_H

#include <stdint.h>

/* The library exports the functions of this file and nothing else. */
#if defined(__GNUC__)
#define FC_API __attribute__((visibility("default")))
#else
#define FC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up when this file changes so that programs must be compiled again. fc_version: of the library that is loaded. */
enum { FC_VERSION = 3 };
FC_API int fc_version(void);

enum { FC_OK = 0, FC_ERROR_MEMORY = 1, FC_ERROR_ARGUMENT = 2, FC_ERROR_REFUSED = 3, FC_ERROR_UNSUPPORTED = 4 };
enum { FC_FWD = 0, FC_BWD_INPUT = 1, FC_BWD_WEIGHT = 2 };

/* Types of numbers. */
enum { FC_F32 = 0, FC_F64 = 1, FC_F16 = 2, FC_BF16 = 3, FC_I8 = 4, FC_U8 = 5, FC_I32 = 6 };

/* The types of a problem's numbers, named as the arrays' slots are, whichever is the result: of x and dx (a product's a), of w
 * (its b; statistics, weights and biases of a normalization), of y (out); acc is that of the sums, which may be made in a wider
 * one. Bias and add have the type of the result, operands of a map that of x; where there is no w, its type is that of x.
 * There are kernels where all four are FC_F32, and where all are FC_F64. */
typedef struct fc_types {
  int x, w, acc, y;
} fc_types;

/* Instruction sets compiled in, best first. The name is NULL if there is none of this number; the reason why this CPU cannot
 * run it is NULL where it can. */
FC_API int fc_isa_count(void);
FC_API const char *fc_isa_name(int isa);
FC_API const char *fc_isa_reason(int isa);

/* The epilogue act(alpha result + beta add + bias). p0 is the slope of FC_ACT_LEAKY_RELU, the alpha of FC_ACT_ELU and
 * FC_ACT_CELU (there not 0); p0 and p1 are the limits of FC_ACT_CLIP, beta (not 0) and threshold of FC_ACT_SOFTPLUS. */
enum {
  FC_ACT_NONE = 0,
  FC_ACT_RELU = 1,
  FC_ACT_LEAKY_RELU = 2,
  FC_ACT_CLIP = 3,
  FC_ACT_SIGMOID = 4,
  FC_ACT_TANH = 5,
  FC_ACT_SILU = 6,
  FC_ACT_HARDSWISH = 7,
  FC_ACT_GELU = 8,
  FC_ACT_GELU_TANH = 9,
  FC_ACT_MISH = 10,
  FC_ACT_SOFTPLUS = 11,
  FC_ACT_LOGSIGMOID = 12,
  FC_ACT_ELU = 13,
  FC_ACT_SELU = 14,
  FC_ACT_CELU = 15,
  FC_ACT_HARDSIGMOID = 16,
  FC_ACT_EXP = 17,
  FC_ACT_SOFTSIGN = 18,
  FC_ACT_ABS = 19,
  FC_ACT_SQRT = 20,
  FC_ACT_LOG = 21,
  FC_ACT_ERF = 22
};
typedef struct fc_act {
  int kind;
  double p0, p1;
} fc_act;

/* ---- plans ---- */

/* What computes one description, by an algorithm that was chosen for it. It knows nothing of the description any more. */
typedef struct fc_plan fc_plan;

/* The slots of a plan's arrays, whichever of them is the result: an array has the same slot in each direction. Those of a
 * product have names of their own. FC_PACKED: the weights as fc_plan_pack left them, instead of those in FC_W. Slots without a
 * name are for operators to come. */
enum {
  FC_X = 0,
  FC_W = 1,
  FC_Y = 2,
  FC_BIAS = 3,
  FC_ADD = 4,
  FC_INDICES = 5,
  FC_DX = 6,
  FC_PACKED = 7,
  FC_SLOTS = 12,
  FC_A = FC_X,
  FC_B = FC_W,
  FC_OUT = FC_Y,
  FC_C = FC_ADD,
  FC_NUMBERS = FC_W,
  FC_TARGET = FC_W,
  FC_FIRST = 8,
  FC_SECOND = 9,
  FC_THIRD = 10
};

/* fc_plan_conv, fc_plan_copy, fc_plan_gemm, fc_plan_loss, fc_plan_map, fc_plan_pool, fc_plan_reduce, fc_plan_resize and
 * fc_plan_update make plans: *plan is NULL where the status is not FC_OK. plan may be NULL here. */
FC_API void fc_plan_destroy(fc_plan *plan);
/* The name of the algorithm that was chosen. */
FC_API const char *fc_plan_algorithm(const fc_plan *plan);
/* The number of threads that are worth waking, and that the limit of the description has room for: at most nthreads and at
 * least 1. packed: the weights are handed over packed. */
FC_API int fc_plan_threads(const fc_plan *plan, int nthreads, int packed);
/* Bytes of scratch that a run with this many threads needs. */
FC_API int64_t fc_plan_workspace(const fc_plan *plan, int nthreads, int packed);
/* Bytes of the packed weights; 0 where this plan takes none, but the weights as they are. */
FC_API int64_t fc_plan_packed_bytes(const fc_plan *plan);
/* Packs weights into memory of fc_plan_packed_bytes, of any alignment, which later runs on any thread only read. */
FC_API int fc_plan_pack(const fc_plan *plan, const void *w, void *packed, int nthreads);
/* Computes the result. arrays: FC_SLOTS addresses; NULL where the description has no such array, else not looked at. workspace
 * may be NULL where it has 0 bytes. */
FC_API int fc_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads);

/* A run of a plan as a step among others, on buffers that they share: slot i is offset[i] bytes into buffer number buffer[i],
 * or NULL where that is -1. */
typedef struct fc_step {
  const fc_plan *plan;
  int64_t offset[FC_SLOTS];
  int32_t buffer[FC_SLOTS];
} fc_step;

/* Bytes of scratch that fc_run_steps needs, which all of the steps use; -1 if one of them has no plan. */
FC_API int64_t fc_steps_workspace(const fc_step *steps, int64_t count, int nthreads);
/* Runs the steps in this order, each on as many of the threads as are worth waking for it. Before any of them runs, all are
 * looked at: FC_ERROR_ARGUMENT where one names a buffer that there is not, or lacks an array that its plan needs. */
FC_API int fc_run_steps(const fc_step *steps, int64_t count, void *const *buffers, int64_t nbuffers, void *workspace,
                        int nthreads);

/* ---- convolutions ---- */

/* One convolution problem. x (n, g icg, x_size), y (n, g ocg, y_size), w (g ocg, icg, ker), whatever the direction:
 * FC_FWD makes y of x and w, FC_BWD_INPUT makes x of y and w, FC_BWD_WEIGHT makes w of x and y.
 * Strides: x, y and add over (n, channel, d, h, w), w over (out channel, in channel, d, h, w). add is NULL or has the
 * shape of the result; bias is NULL or has one element a channel of the result. */
typedef struct fc_conv_desc {
  fc_types types;
  int direction, isa;
  int has_bias, has_add;
  int strict;                 /* direct algorithms only */
  int packed;                 /* the weights are packed once, for many calls */
  int algorithm;              /* 0: the library chooses; else 1 + the number of the one that runs, however slow it is */
  int64_t limit;              /* 0, or the bytes of scratch that a call on one thread is to stay within */
  int64_t n, groups, icg, ocg;
  int64_t x_size[3], y_size[3], ker[3], stride[3], pad[3], dil[3];
  int64_t x_stride[5], y_stride[5], w_stride[5], add_stride[5];
  fc_act act;
} fc_conv_desc;

/* The algorithms, in the order in which they are asked. One name may stand for several, of different directions; it is NULL if
 * there is none of this number. */
FC_API int fc_conv_algorithm_count(void);
FC_API const char *fc_conv_algorithm_name(int algorithm);
/* NULL if it can compute this, fast or slowly, else why not; empty where it is of another direction. */
FC_API const char *fc_conv_algorithm_refusal(const fc_conv_desc *desc, int algorithm);

/* FC_ERROR_REFUSED: desc names an algorithm that cannot compute it. */
FC_API int fc_plan_conv(const fc_conv_desc *desc, fc_plan **plan);
/* Why this algorithm: one line a candidate, the chosen one last, as much of it as fits into size bytes, the closing 0 among
 * them. The status is that of fc_plan_conv. */
FC_API int fc_conv_explain(const fc_conv_desc *desc, char *text, int64_t size);

/* ---- products ---- */

/* out[i] = act(alpha a[i] b[i] + beta c[i] + bias) for batch matrices; a (m, k), b (k, n), c and out (m, n), all with
 * strides over (batch, row, column); bias has n elements, one after another. Sizes are at most 2^31 - 1, and so are the elements
 * of out; all but k are at least 1. Where k is 0, a and b may be NULL. */
typedef struct fc_gemm_desc {
  fc_types types;
  int isa;
  int has_bias, has_c;
  int64_t batch, m, n, k;
  int64_t a_stride[3], b_stride[3], c_stride[3], out_stride[3];
  double alpha, beta;
  fc_act act;
} fc_gemm_desc;

FC_API int fc_plan_gemm(const fc_gemm_desc *desc, fc_plan **plan);

/* ---- maps ---- */

/* Elementwise functions. Operands: x of FC_MAP_ACTIVATE; dy and x of FC_MAP_ACTIVATE_BACKWARD; two of the arithmetic ones; x, s
 * and t of FC_MAP_SCALE_SHIFT, which is x s + t; x and the slope below 0 of FC_MAP_PRELU. The others are gradients: of
 * dy, x and slope, that of x; of dy and x, that of the slope; of dy, a and b, that of b in a / b; of dy, a and b, that of a in
 * the maximum or minimum of both, half of dy where they are equal. A NaN comes through a maximum or minimum.
 * FC_MAP_DROPOUT: 0 with probability p, else x / (1 - p). Its second operand is no array: FC_W has two uint64_t, a seed and an
 * offset, and stride[1] numbers the elements, from 0 on for the first one, to below 2^31. Element i is 0 where the random number
 * i is below 2^32 p: word i % 4 of Philox4x32-10 of the counter (i / 4, 0, offset, offset >> 32) and the key (seed, seed >> 32).
 */
enum {
  FC_MAP_ACTIVATE = 0,
  FC_MAP_ACTIVATE_BACKWARD = 1,
  FC_MAP_ADD = 2,
  FC_MAP_SUBTRACT = 3,
  FC_MAP_MULTIPLY = 4,
  FC_MAP_DIVIDE = 5,
  FC_MAP_MAXIMUM = 6,
  FC_MAP_MINIMUM = 7,
  FC_MAP_SCALE_SHIFT = 8,
  FC_MAP_PRELU = 9,
  FC_MAP_PRELU_BACKWARD = 10,
  FC_MAP_PRELU_SLOPE = 11,
  FC_MAP_DIVIDE_BACKWARD = 12,
  FC_MAP_MAXIMUM_BACKWARD = 13,
  FC_MAP_MINIMUM_BACKWARD = 14,
  FC_MAP_DROPOUT = 15
};

/* out[i] = f(operands[i]) over up to 8 dimensions, which all arrays share: strides of 0 are how an operand is broadcast. The
 * operands are in FC_X, FC_W and FC_ADD, as many as there are, out in FC_OUT. */
typedef struct fc_map_desc {
  fc_types types;
  int op, isa, rank;
  int64_t size[8], out_stride[8], stride[3][8]; /* of each operand */
  fc_act act;
  double p;                   /* of FC_MAP_DROPOUT: above 0, at most 1 */
} fc_map_desc;

FC_API int fc_plan_map(const fc_map_desc *desc, fc_plan **plan);

/* ---- steps of optimizers ---- */

/* A step moves a parameter w, in place, against its gradient g, which is only read. With what is remembered of earlier steps in
 * the slots FC_FIRST to FC_THIRD, which changes too, and with eight numbers (double) in FC_NUMBERS, which are those of one step,
 * {rate, decay, kept, a, b, eps, per_root, 0}:
 *
 *   first                 w = kept w, g = g + decay w
 *   FC_UPDATE_SGD         v = a v + g; w -= rate v, with nesterov w -= rate (g + a v); without v, w -= rate g
 *   FC_UPDATE_ADAM        m += a (g - m), s += b (g^2 - s); w -= rate m / (sqrt(s) per_root + eps)
 *   FC_UPDATE_RMSPROP     s += b (g^2 - s); with m, m += b (g - m) and m^2 is taken off s below; u = g / (sqrt(s) + eps);
 *                         with v, v = a v + u and w -= rate v, else w -= rate u
 *
 * FC_FIRST is v, m, or s; FC_SECOND s or m; FC_THIRD v. No two arrays share memory. */
enum { FC_UPDATE_SGD = 0, FC_UPDATE_ADAM = 1, FC_UPDATE_RMSPROP = 2, FC_UPDATE_ARRAYS = 5 };

/* w is in FC_OUT, g in FC_X. remembered: bits of FC_FIRST and those after it. Up to 8 dimensions, strides of w, g, first, second
 * and third. */
typedef struct fc_update_desc {
  fc_types types;
  int rule, nesterov, remembered, isa, rank;
  int64_t size[8], stride[5][8];
} fc_update_desc;

FC_API int fc_plan_update(const fc_update_desc *desc, fc_plan **plan);

/* ---- losses ---- */

/* Of each element x and its target t, with d = x - t and a = |d|; w and p are factors, 1 where they are absent:
 *
 *   FC_LOSS_MSE              d^2                                              slope 2 d
 *   FC_LOSS_L1               a                                                sign(d), which is 0 of 0
 *   FC_LOSS_SMOOTH_L1        d^2 / (2 p0) where a is below p0, else a - p0 / 2   d / p0, sign(d)
 *   FC_LOSS_HUBER            d^2 / 2 where a is at most p0, else p0 (a - p0 / 2) d, p0 sign(d)
 *   FC_LOSS_BINARY           (t - 1) log(1 - x) - t log(x), logarithms being -100 at least
 *                                                                             (x - t) / max(x (1 - x), 1e-12)
 *   FC_LOSS_BINARY_LOGITS    (1 - t) x + f log(1 + exp(-x)), f = (p - 1) t + 1   (1 - t) / (1 + exp(-x)) - p t / (1 + exp(x))
 *   FC_LOSS_KL               t (log(t) - x), where t is 0 -t x                -t
 *   FC_LOSS_KL_LOG           exp(t) (t - x)                                   -exp(t)
 *
 *   FC_LOSS_CLASSES          no loss; t and p of FC_LOG_SOFTMAX, p must be there  exp(x - t - p)
 *
 * FC_FWD makes w times the loss, of all elements, or, reduced, their sum in double precision divided by divisor.
 * FC_BWD_INPUT makes dy times w times the slope. */
enum {
  FC_LOSS_MSE = 0,
  FC_LOSS_L1 = 1,
  FC_LOSS_SMOOTH_L1 = 2,
  FC_LOSS_HUBER = 3,
  FC_LOSS_BINARY = 4,
  FC_LOSS_BINARY_LOGITS = 5,
  FC_LOSS_KL = 6,
  FC_LOSS_KL_LOG = 7,
  FC_LOSS_CLASSES = 8
};

/* x is in FC_X, t in FC_TARGET, w in FC_FIRST, p, which FC_LOSS_BINARY_LOGITS and FC_LOSS_CLASSES alone have, in FC_SECOND, the
 * loss or dy in FC_Y, the gradient in FC_DX. factors: 1 where there is w, plus 2 where there is p. Up to 8 dimensions, strides of
 * x, t, w, p, y (of dy that is one number 0; of a loss that is reduced they mean nothing) and dx. p0 is from 0 on, of
 * FC_LOSS_HUBER above. A run of FC_LOSS_BINARY is FC_ERROR_ARGUMENT, and then makes some result, if an x is not from 0 to 1. */
typedef struct fc_loss_desc {
  fc_types types;
  int kind, direction, reduced, factors, isa, rank;
  double p0, divisor;
  int64_t size[8], stride[6][8];
} fc_loss_desc;

FC_API int fc_plan_loss(const fc_loss_desc *desc, fc_plan **plan);

/* ---- copies ---- */

/* How padding goes on: with one value; mirrored, without the element at the end once more; with the element at the end; from the
 * other end. */
enum { FC_PAD_CONSTANT = 0, FC_PAD_REFLECT = 1, FC_PAD_REPLICATE = 2, FC_PAD_CIRCULAR = 3 };

/* Copies of arrays, whose elements lie anyhow, and are turned so; of FC_F32 and FC_F64, of which one is converted to the other
 * where types.y is not types.x, else any elements of 4 and of 8 bytes, whose bits come through. types.w and types.acc are
 * types.x. Along each dimension out has the positions from -before to size + after of x, 0 to size - 1 being its own; negative
 * numbers leave some of those out. FC_PAD_REFLECT takes less than size of either, FC_PAD_CIRCULAR at most size. value: an element
 * of out, in the first bytes. FC_BWD_INPUT is the gradient: x, padded, to out, of size; each element is the sum of all to which
 * it was copied, added in double precision in row-major order. x is in FC_X, out in FC_OUT. No array has more than 2^31 - 1
 * elements. FC_ERROR_REFUSED: a dimension that is padded has more than 2^24. */
typedef struct fc_copy_desc {
  fc_types types;
  int direction, isa, rank, mode; /* rank: 0 to 8 */
  int64_t size[8], before[8], after[8], x_stride[8], out_stride[8];
  unsigned char value[8];
} fc_copy_desc;

FC_API int fc_plan_copy(const fc_copy_desc *desc, fc_plan **plan);

/* ---- reductions ---- */

/* Reductions over some axes of arrays of one shape, and what is made of each element and the numbers of its reduction. With
 * n elements to a result, in the order of desc's strides, in[] to out[]:
 *
 *   FC_SUM_OVER                in x                   out -, sum of x / p0
 *   FC_MOMENTS_OVER            in x                   out -, mean, sum of (x - mean)^2 / max(n - p0, 0)
 *   FC_MAX_OVER, FC_MIN_OVER   in x                   out -, the largest or smallest, its place (int64_t)
 *   FC_AFFINE                  in x, -, m, s, w, b    out ((x - m) s) w + b; nothing is reduced
 *   FC_NORMALIZE               in x, -, -, -, w, b    out ((x - mean) r) w + b, mean, r = 1 / sqrt(variance + p0), variance
 *   FC_NORMALIZE_BACKWARD      in dy, x, m, r, w, v   out (g - sum g / n - h sum(g h) / n) r v, sum g, sum g h
 *   FC_NORMALIZE_SUMS          in dy, x, m, r, w      out -, sum g, sum g h, where g = dy w and h = (x - m) r
 *   FC_SOFTMAX                 in x                   out exp(x) / sum exp(x)
 *   FC_LOG_SOFTMAX             in x                   out x - t - p, t, p: the largest x, log(sum exp(x - t))
 *   FC_SOFTMAX_BACKWARD, FC_LOG_SOFTMAX_BACKWARD      in dy, y   out the gradient of x
 *
 * m and b that are absent are 0, s, r, w and v are 1; what stands first must be there, and one result. root_mean_square: of the
 * kinds that normalize, the mean is taken for 0, and so is sum g. Of equal maxima the first counts, as reduced axes are numbered
 * in row-major order, and that is its place; a NaN is larger, and smaller, than any number.
 *
 * Arrays have the strides of all axes, 0 along those where they do not change: results but the first along those that are
 * reduced. No more than 2^31 - 1 elements. Sums are added in double precision, those of products and exponentials of FC_F32 after
 * some terms that are added in their own. */
enum {
  FC_SUM_OVER = 0,
  FC_MOMENTS_OVER = 1,
  FC_MAX_OVER = 2,
  FC_MIN_OVER = 3,
  FC_AFFINE = 4,
  FC_NORMALIZE = 5,
  FC_NORMALIZE_BACKWARD = 6,
  FC_NORMALIZE_SUMS = 7,
  FC_SOFTMAX = 8,
  FC_LOG_SOFTMAX = 9,
  FC_SOFTMAX_BACKWARD = 10,
  FC_LOG_SOFTMAX_BACKWARD = 11
};

/* Slots: in[i] is i, out[0] is 6, and those after it are 8, 9 and 10. */
typedef struct fc_reduce_desc {
  fc_types types;
  int kind, isa, rank;         /* rank: 0 to 8 */
  int reduced, present;        /* bits of axes, and of slots */
  int root_mean_square;
  double p0;
  int64_t size[8];
  int64_t stride[11][8];       /* of the array in each slot */
} fc_reduce_desc;

FC_API int fc_plan_reduce(const fc_reduce_desc *desc, fc_plan **plan);

/* ---- poolings ---- */

enum { FC_MAX = 0, FC_AVG = 1, FC_SUM = 2 };

/* One pooling problem, x (n, c, x_size) to y (n, c, y_size): FC_FWD makes y of x; FC_BWD_INPUT makes dx of y, which then is dy,
 * and for FC_MAX of x or indices. Along each dimension output o pools the positions o stride - pad + t dil of x, t below ker,
 * as far as they are inside; of each window one has to be. adaptive: it pools those from floor(o in / out) to
 * ceil((o + 1) in / out) instead. FC_AVG divides by divisor or, if that is 0, by the product of the counts: the positions of
 * the window before in + pad_end, without those in the padding unless count_pad. dil is 1 for sums and averages.
 * indices: FC_FWD of FC_MAX also finds where the maxima are, flat inside a channel plane of x; of equal ones the first. They are
 * int64_t. FC_BWD_INPUT is given them, and is FC_ERROR_ARGUMENT, and then makes some dx, if one is not inside a channel plane.
 * Where maxima are located, FC_F32 has at most 2^24 positions in a plane. No array has more than 2^31 - 1 elements.
 * Strides are over (n, channel, d, h, w); those of arrays that the direction does not have mean nothing. */
typedef struct fc_pool_desc {
  fc_types types;
  int kind, direction, isa, indices, adaptive, count_pad;
  int64_t n, c, x_size[3], y_size[3], ker[3], stride[3], pad[3], pad_end[3], dil[3];
  int64_t x_stride[5], y_stride[5], dx_stride[5], indices_stride[5];
  double divisor;
} fc_pool_desc;

FC_API int fc_plan_pool(const fc_pool_desc *desc, fc_plan **plan);

/* ---- resizing ---- */

/* Images of another size, x (n, c, x_size) to y (n, c, y_size), by a table for each axis, which says all about the rule: position
 * o of y is the sum over t, from first[o] to before first[o + 1], of weight[t] times position index[t] of x. So gradients are
 * made by the turned tables: of each position of x where it went. first has one number more than positions, and begins with 0.
 * An axis whose first is NULL stays as it is. FC_ERROR_REFUSED: a position of y is the sum of over 2^16 along w, or along d and
 * h together. Tables may go once the plan is made. Strides are over (n, channel, d, h, w). */
typedef struct fc_resize_desc {
  fc_types types;
  int isa;
  int64_t n, c, x_size[3], y_size[3];
  int64_t x_stride[5], y_stride[5];
  const int64_t *first[3], *index[3];
  const double *weight[3];
} fc_resize_desc;

FC_API int fc_plan_resize(const fc_resize_desc *desc, fc_plan **plan);

/* ---- the machine ---- */

/* Whether kernels take denormal numbers for zero (they do, unless told otherwise), on every thread that works. */
FC_API void fc_set_flush_denormals(int on);
FC_API int fc_get_flush_denormals(void);

/* Threads that the pool has started and not lost. */
FC_API int fc_worker_count(void);

/* Runs npieces pieces of about work steps on the pool, each of which, down to depth, runs as many inside it. calls[i]
 * counts the runs of piece i, *threads the workers that joined, *flushed the pieces that saw denormals flushed; each of the
 * three may be NULL. Returns how often a promise of the pool was broken. */
FC_API int64_t fc_selftest_threads(int nthreads, int64_t npieces, int64_t work, int depth, int32_t *calls, int64_t *threads,
                                   int64_t *flushed);

/* Seconds for count register-only fused multiply-adds on this thread's core, for the peak that benchmarks quote;
 * flops, if not NULL, receives how many floating-point operations they were. -1, and 0, if isa, type or count are none. */
FC_API double fc_fma_peak(int isa, int type, int64_t count, double *flops);

#ifdef __cplusplus
}
#endif

#endif
