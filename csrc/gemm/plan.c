/* GEMM: matrices with any strides, packed block by block; of a few rows or columns, read where they are. */
#include "core/check.h"
#include "gemm/product.h"
#include "core/threads.h"

/* Limits of a piece; columns up to which rows of a are not worth packing; columns of a product of few rows by which it is
 * cut: whole groups of every kernel and vector; depth of sums that are short, columns of rows that are long. */
enum { MOST_M = 1536, MOST_N = 1536, MOST_N_OF_ROWS = 256, FEW_COLUMNS = 96, SHORT = 32, LONG_ROW = 512 };

typedef void (*few_fn)(const fc_block *);

typedef struct gemm_job {
  fc_gemm_desc d;             /* transposed where that has few rows */
  int transposed, rows;
  few_fn few;
  fc_product p;
  int64_t piece_m, piece_n, pieces_m, pieces_n, scratch;
  const char *a, *b, *bias, *c;
  char *out, *workspace;
} gemm_job;

typedef struct strided {
  const fc_kernels *kn;
  const char *base;
  int64_t lane, depth, es;   /* strides */
  int tile;
} strided;

static void pack_strided(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const strided *s = work;
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < s->tile; l++) off[l] = l * s->lane;
  /* Where lanes are neighbours, few rows at a time: a row's next lanes are then still near, in cache and in the TLB. */
  const int64_t step = s->depth == 1 ? k1 - k0 : 8;
  for (int64_t k = k0; k < k1; k += step) {
    const int64_t len = fc_min(step, k1 - k);
    for (int64_t l = l0; l < l1; l += s->tile)
      s->kn->pack((char *)dst + ((l - l0) * (k1 - k0) + (k - k0) * s->tile) * s->es, s->tile, (int)fc_min(s->tile, l1 - l),
                  s->base + (l * s->lane + k * s->depth) * s->es, off, s->depth, len);
  }
}

/* A kernel for few rows, which reads b once where it is: packing it would take longer than the product. */
static few_fn few_rows(const fc_kernels *kn, const fc_gemm_desc *d) {
  if (d->m <= FC_FEW && d->a_stride[2] == 1 && d->b_stride[1] == 1) return kn->dots;
  if (d->m <= FC_FEW_MIXED && d->b_stride[2] == 1) return kn->mix;
  return 0;
}

static void swap(int64_t *a, int64_t *b) {
  const int64_t x = *a;
  *a = *b;
  *b = x;
}

/* out^T = b^T a^T */
static void transpose(fc_gemm_desc *d) {
  swap(&d->m, &d->n);
  swap(&d->a_stride[0], &d->b_stride[0]);
  swap(&d->a_stride[1], &d->b_stride[2]);
  swap(&d->a_stride[2], &d->b_stride[1]);
  swap(&d->c_stride[1], &d->c_stride[2]);
  swap(&d->out_stride[1], &d->out_stride[2]);
}

/* The description in a form of its own, if it is one. Strides of c mean something only where there is c. */
static int describe(fc_gemm_desc *d, const fc_gemm_desc *given, int use_c) {
  if (!given || !fc_kernels_of(given->isa, given->dtype) || !fc_act_known(&given->act)) return FC_ERROR_ARGUMENT;
  *d = *given;
  const int64_t a[3] = {d->batch, d->m, d->k}, b[3] = {d->batch, d->k, d->n}, out[3] = {d->batch, d->m, d->n};
  if (!fc_elements(out, 3) || !fc_between(d->k, 0, FC_MOST)) return FC_ERROR_ARGUMENT;
  if (!fc_settle(d->a_stride, a, 3) || !fc_settle(d->b_stride, b, 3) || !fc_settle(d->out_stride, out, 3) ||
      !fc_apart(d->out_stride, out, 3) || (use_c && !fc_settle(d->c_stride, out, 3)))
    return FC_ERROR_ARGUMENT;
  if (d->k == 0) { /* then a and b may be NULL, to which nothing may be added */
    memset(d->a_stride, 0, sizeof d->a_stride);
    memset(d->b_stride, 0, sizeof d->b_stride);
  }
  return FC_OK;
}

static int prepare(gemm_job *j, const fc_gemm_desc *given, int nthreads) {
  fc_gemm_desc *d = &j->d;
  const int status = describe(d, given, j->c != 0);
  if (status) return status;
  const fc_kernels *kn = fc_kernels_of(d->isa, d->dtype);
  j->p = (fc_product){kn, d->dtype == FC_F32 ? 4 : 8, d->m, d->n, d->k, fc_product_kstep(kn, d->k), 0};
  j->transposed = d->n < d->m;
  if (j->transposed) transpose(d);
  j->few = few_rows(kn, d);
  if (j->few) {
    fc_partition(d->m, d->n, (int)d->m, FEW_COLUMNS, d->m, fc_round_up(d->n, FEW_COLUMNS), d->batch, nthreads, FC_MANY_PIECES,
                 &j->piece_m, &j->piece_n);
    j->scratch = 0;
  } else {
    if (j->transposed) transpose(d);
    j->transposed = 0;
    j->rows = d->a_stride[2] == 1 && d->k > 0 && d->n <= MOST_N_OF_ROWS;
    fc_partition(d->m, d->n, kn->mr, kn->nr, MOST_M / kn->mr * kn->mr, MOST_N / kn->nr * kn->nr, d->batch, nthreads,
                 FC_MANY_PIECES, &j->piece_m, &j->piece_n);
    j->scratch = fc_round_up(j->piece_m * (int64_t)sizeof(void *), FC_ALIGN) +
                 fc_round_up(fc_product_scratch(&j->p, j->piece_n), FC_ALIGN);
  }
  j->pieces_m = fc_div_up(d->m, j->piece_m);
  j->pieces_n = fc_div_up(d->n, j->piece_n);
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  const gemm_job *j = ctx;
  const fc_gemm_desc *d = &j->d;
  const int64_t es = j->p.es, per = j->pieces_m * j->pieces_n, t = index / per;
  const int64_t m0 = index % per % j->pieces_m * j->piece_m, m1 = fc_min(d->m, m0 + j->piece_m);
  const int64_t n0 = index % per / j->pieces_m * j->piece_n, n1 = fc_min(d->n, n0 + j->piece_n);
  const char *a = j->a + t * d->a_stride[0] * es, *b = j->b + t * d->b_stride[0] * es;
  fc_view out = {.p = j->out + (t * d->out_stride[0] + m0 * d->out_stride[1] + n0 * d->out_stride[2]) * es,
                 .rs = d->out_stride[1],
                 .cs = d->out_stride[2]};
  fc_view add = {0};
  if (j->c)
    add = (fc_view){.p = (char *)j->c + (t * d->c_stride[0] + m0 * d->c_stride[1] + n0 * d->c_stride[2]) * es,
                    .rs = d->c_stride[1],
                    .cs = d->c_stride[2]};
  const char *bias = j->bias ? j->bias + (j->transposed ? m0 : n0) * es : 0;
  const fc_epilogue ep = {d->alpha,  d->beta,  j->transposed ? bias : 0, j->transposed ? 0 : bias, d->act.kind,
                          d->act.p0, d->act.p1};
  if (j->few) {
    const fc_block block = {.m = d->m,
                            .n = n1 - n0,
                            .k = d->k,
                            .a = a,
                            .b = b + n0 * d->b_stride[2] * es,
                            .a_row = d->a_stride[1],
                            .a_step = d->a_stride[2],
                            .b_row = d->b_stride[j->few == j->p.kn->dots ? 2 : 1],
                            .out = out,
                            .add = add,
                            .ep = &ep,
                            .first = 1,
                            .last = 1};
    j->few(&block);
    return;
  }
  char *scratch = j->workspace + worker * j->scratch;
  strided from_a = {j->p.kn, a, d->a_stride[1], d->a_stride[2], es, j->p.kn->mr},
          from_b = {j->p.kn, b, d->b_stride[2], d->b_stride[1], es, j->p.kn->nr};
  /* Of short sums most of the work is writing, which likes few rows at once, long ones. */
  const int flat = d->k <= SHORT && d->n >= LONG_ROW;
  fc_operand left = {.pack = pack_strided, .work = &from_a, .high = flat ? j->p.kn->mr : 0};
  const void **at = (const void **)scratch;
  const fc_rows rows = {at, d->k, m1 - m0};
  if (j->rows) {
    for (int64_t i = m0; i < m1; i++) at[i - m0] = a + i * d->a_stride[1] * es;
    left.rows = &rows;
  }
  fc_product_piece(&j->p, left, (fc_operand){.pack = pack_strided, .work = &from_b}, m0, m1, n0, n1, &out, &add, &ep,
                   scratch + fc_round_up(j->piece_m * (int64_t)sizeof(void *), FC_ALIGN));
}

int fc_gemm_threads(const fc_gemm_desc *given, int nthreads) {
  fc_gemm_desc d;
  if (describe(&d, given, 0) || (double)d.batch * (double)d.m * (double)d.n * (double)d.k < FC_SERIAL_MACS) return 1;
  return fc_usable_threads(nthreads);
}

int64_t fc_gemm_workspace(const fc_gemm_desc *d, int nthreads) {
  gemm_job j = {.c = 0};
  nthreads = fc_usable_threads(nthreads);
  return prepare(&j, d, nthreads) ? -1 : nthreads * j.scratch + FC_ALIGN;
}

int fc_gemm_run(const fc_gemm_desc *d, const void *a, const void *b, const void *bias, const void *c, void *out, void *workspace,
                int nthreads) {
  gemm_job j = {.bias = bias, .c = c, .out = out, .workspace = fc_aligned(workspace)};
  nthreads = fc_usable_threads(nthreads);
  const int status = prepare(&j, d, nthreads);
  if (status) return status;
  if (!out || !workspace || (d->k > 0 && !(a && b))) return FC_ERROR_ARGUMENT;
  j.a = j.transposed ? b : a;
  j.b = j.transposed ? a : b;
  return fc_parallel_for(nthreads, d->batch * j.pieces_m * j.pieces_n, piece, &j);
}
