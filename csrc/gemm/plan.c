/* GEMM: matrices with any strides, packed block by block; of a few rows or columns, read where they are. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"
#include "gemm/product.h"

/* Limits of a piece; columns up to which rows of a are not worth packing; columns of a product of few rows by which it is
 * cut: whole groups of every kernel and vector; depth of sums that are short, columns of rows that are long. */
enum { MOST_M = 1536, MOST_N = 1536, MOST_N_OF_ROWS = 256, FEW_COLUMNS = 96, SHORT = 32, LONG_ROW = 512 };

typedef void (*few_fn)(const fc_block *);

typedef struct gemm_plan {
  fc_plan head;
  fc_gemm_desc d;             /* transposed where that has few rows */
  int transposed, rows;       /* rows: those of a are read where they are */
  few_fn few;
  fc_product product;
} gemm_plan;

/* How a call is cut, for so many threads; bytes of a worker's scratch. */
typedef struct gemm_cut {
  int64_t piece_m, piece_n, pieces_m, pieces_n, scratch;
} gemm_cut;

typedef struct gemm_job {
  const gemm_plan *plan;
  gemm_cut cut;
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

/* Settles the strides of a description, if it is one. */
static int describe(fc_gemm_desc *d, const fc_kernels **kn) {
  const int64_t a[3] = {d->batch, d->m, d->k}, b[3] = {d->batch, d->k, d->n}, out[3] = {d->batch, d->m, d->n};
  const int status = fc_find_kernels(kn, d->isa, &d->types);
  if (status) return status;
  if (!fc_act_known(&d->act) || !fc_elements(out, 3) || !fc_between(d->k, 0, FC_MOST)) return FC_ERROR_ARGUMENT;
  if (!d->has_c) memset(d->c_stride, 0, sizeof d->c_stride);
  if (!fc_settle(d->a_stride, a, 3) || !fc_settle(d->b_stride, b, 3) || !fc_settle(d->out_stride, out, 3) ||
      !fc_apart(d->out_stride, out, 3) || !fc_settle(d->c_stride, out, 3))
    return FC_ERROR_ARGUMENT;
  if (d->k == 0) { /* then a and b may be NULL, to which nothing may be added */
    memset(d->a_stride, 0, sizeof d->a_stride);
    memset(d->b_stride, 0, sizeof d->b_stride);
  }
  return FC_OK;
}

static gemm_cut cut(const gemm_plan *p, int nthreads) {
  const fc_gemm_desc *d = &p->d;
  const fc_kernels *kn = p->product.kn;
  gemm_cut c = {.scratch = 0};
  if (p->few) {
    fc_partition(d->m, d->n, (int)d->m, FEW_COLUMNS, d->m, fc_round_up(d->n, FEW_COLUMNS), d->batch, nthreads, FC_MANY_PIECES,
                 &c.piece_m, &c.piece_n);
  } else {
    fc_partition(d->m, d->n, kn->mr, kn->nr, MOST_M / kn->mr * kn->mr, MOST_N / kn->nr * kn->nr, d->batch, nthreads,
                 FC_MANY_PIECES, &c.piece_m, &c.piece_n);
    c.scratch = fc_round_up(c.piece_m * (int64_t)sizeof(void *), FC_ALIGN) +
                fc_round_up(fc_product_scratch(&p->product, c.piece_n), FC_ALIGN);
  }
  c.pieces_m = fc_div_up(d->m, c.piece_m);
  c.pieces_n = fc_div_up(d->n, c.piece_n);
  return c;
}

static void piece(void *ctx, int64_t index, int worker) {
  const gemm_job *j = ctx;
  const gemm_plan *p = j->plan;
  const gemm_cut *cut = &j->cut;
  const fc_gemm_desc *d = &p->d;
  const fc_kernels *kn = p->product.kn;
  const int64_t es = p->product.es, per = cut->pieces_m * cut->pieces_n, t = index / per;
  const int64_t m0 = index % per % cut->pieces_m * cut->piece_m, m1 = fc_min(d->m, m0 + cut->piece_m);
  const int64_t n0 = index % per / cut->pieces_m * cut->piece_n, n1 = fc_min(d->n, n0 + cut->piece_n);
  const char *a = j->a + t * d->a_stride[0] * es, *b = j->b + t * d->b_stride[0] * es;
  fc_view out = {.p = j->out + (t * d->out_stride[0] + m0 * d->out_stride[1] + n0 * d->out_stride[2]) * es,
                 .rs = d->out_stride[1],
                 .cs = d->out_stride[2]};
  fc_view add = {0};
  if (j->c)
    add = (fc_view){.p = (char *)j->c + (t * d->c_stride[0] + m0 * d->c_stride[1] + n0 * d->c_stride[2]) * es,
                    .rs = d->c_stride[1],
                    .cs = d->c_stride[2]};
  const char *bias = j->bias ? j->bias + (p->transposed ? m0 : n0) * es : 0;
  const fc_epilogue ep = {d->alpha,  d->beta,  p->transposed ? bias : 0, p->transposed ? 0 : bias, d->act.kind,
                          d->act.p0, d->act.p1};
  if (p->few) {
    const fc_block block = {.m = d->m,
                            .n = n1 - n0,
                            .k = d->k,
                            .a = a,
                            .b = b + n0 * d->b_stride[2] * es,
                            .a_row = d->a_stride[1],
                            .a_step = d->a_stride[2],
                            .b_row = d->b_stride[p->few == kn->dots ? 2 : 1],
                            .out = out,
                            .add = add,
                            .ep = &ep,
                            .first = 1,
                            .last = 1};
    p->few(&block);
    return;
  }
  char *scratch = j->workspace + worker * cut->scratch;
  strided from_a = {kn, a, d->a_stride[1], d->a_stride[2], es, kn->mr},
          from_b = {kn, b, d->b_stride[2], d->b_stride[1], es, kn->nr};
  /* Of short sums most of the work is writing, which likes few rows at once, long ones. */
  const int flat = d->k <= SHORT && d->n >= LONG_ROW;
  fc_operand left = {.pack = pack_strided, .work = &from_a, .high = flat ? kn->mr : 0};
  const void **at = (const void **)scratch;
  const fc_rows rows = {at, d->k, m1 - m0};
  if (p->rows) {
    for (int64_t i = m0; i < m1; i++) at[i - m0] = a + i * d->a_stride[1] * es;
    left.rows = &rows;
  }
  fc_product_piece(&p->product, left, (fc_operand){.pack = pack_strided, .work = &from_b}, m0, m1, n0, n1, &out, &add, &ep,
                   scratch + fc_round_up(cut->piece_m * (int64_t)sizeof(void *), FC_ALIGN));
}

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const gemm_plan *p = (const gemm_plan *)plan;
  gemm_job j = {.plan = p,
                .cut = cut(p, nthreads),
                .a = arrays[p->transposed ? FC_B : FC_A],
                .b = arrays[p->transposed ? FC_A : FC_B],
                .bias = p->d.has_bias ? arrays[FC_BIAS] : 0,
                .c = p->d.has_c ? arrays[FC_C] : 0,
                .out = arrays[FC_OUT],
                .workspace = workspace};
  return fc_parallel_for(nthreads, p->d.batch * j.cut.pieces_m * j.cut.pieces_n, piece, &j);
}

static int64_t workspace(const fc_plan *plan, int nthreads, int packed) {
  (void)packed;
  return nthreads * cut((const gemm_plan *)plan, nthreads).scratch + FC_ALIGN;
}

static void destroy(fc_plan *plan) { free(plan); }

static const fc_operator gemm = {.destroy = destroy, .run = run, .workspace = workspace};

int fc_plan_gemm(const fc_gemm_desc *given, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  if (!given) return FC_ERROR_ARGUMENT;
  fc_gemm_desc d = *given;
  const fc_kernels *kn;
  const int status = describe(&d, &kn);
  if (status) return status;
  gemm_plan *p = malloc(sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  *p = (gemm_plan){.head = {.does = &gemm,
                            .algorithm = "packed_gemm",
                            .needs = FC_BIT(FC_OUT) | (d.k ? FC_BIT(FC_A) | FC_BIT(FC_B) : 0) |
                                     (d.has_bias ? FC_BIT(FC_BIAS) : 0) | (d.has_c ? FC_BIT(FC_C) : 0),
                            .serial = (double)d.batch * (double)d.m * (double)d.n * (double)d.k < FC_SERIAL_MACS},
                   .product = {kn, fc_bytes(d.types.x), d.m, d.n, d.k, fc_product_kstep(kn, d.k), 0}};
  p->transposed = d.n < d.m;
  if (p->transposed) transpose(&d);
  p->few = few_rows(kn, &d);
  if (!p->few) {
    if (p->transposed) transpose(&d);
    p->transposed = 0;
    p->rows = d.a_stride[2] == 1 && d.k > 0 && d.n <= MOST_N_OF_ROWS;
  }
  p->d = d;
  *plan = &p->head;
  return FC_OK;
}
