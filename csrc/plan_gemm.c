/* GEMM: matrices with any strides, packed block by block. */
#include "product.h"
#include "threads.h"

enum { MOST_M = 1536, MOST_N = 1536 };

typedef struct gemm_job {
  const fc_gemm_desc *d;
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
  const int64_t step = s->depth == 1 ? k1 - k0 : 32;
  for (int64_t k = k0; k < k1; k += step) {
    const int64_t len = fc_min(step, k1 - k);
    for (int64_t l = l0; l < l1; l += s->tile)
      s->kn->pack((char *)dst + ((l - l0) * (k1 - k0) + (k - k0) * s->tile) * s->es, s->tile, (int)fc_min(s->tile, l1 - l),
                  s->base + (l * s->lane + k * s->depth) * s->es, off, s->depth, len);
  }
}

static int prepare(gemm_job *j, const fc_gemm_desc *d, int nthreads) {
  const fc_kernels *kn = fc_kernels_of(d->isa, d->dtype);
  if (!kn || d->batch < 1 || d->m < 1 || d->n < 1 || d->k < 0) return FC_ERROR_ARGUMENT;
  j->d = d;
  j->p = (fc_product){kn, d->dtype == FC_F32 ? 4 : 8, d->m, d->n, d->k, fc_product_kstep(kn, d->k)};
  fc_partition(d->m, d->n, kn->mr, kn->nr, MOST_M / kn->mr * kn->mr, MOST_N / kn->nr * kn->nr, d->batch, nthreads, &j->piece_m,
               &j->piece_n);
  j->pieces_m = fc_div_up(d->m, j->piece_m);
  j->pieces_n = fc_div_up(d->n, j->piece_n);
  j->scratch = fc_round_up(fc_product_scratch(&j->p, j->piece_n), FC_ALIGN);
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  const gemm_job *j = ctx;
  const fc_gemm_desc *d = j->d;
  const int64_t es = j->p.es, per = j->pieces_m * j->pieces_n, t = index / per;
  const int64_t m0 = index % per % j->pieces_m * j->piece_m, m1 = fc_min(d->m, m0 + j->piece_m);
  const int64_t n0 = index % per / j->pieces_m * j->piece_n, n1 = fc_min(d->n, n0 + j->piece_n);
  strided a = {j->p.kn, j->a + t * d->as[0] * es, d->as[1], d->as[2], es, j->p.kn->mr};
  strided b = {j->p.kn, j->b + t * d->bs[0] * es, d->bs[2], d->bs[1], es, j->p.kn->nr};
  fc_view out = {.p = j->out + (t * d->os[0] + m0 * d->os[1] + n0 * d->os[2]) * es, .rs = d->os[1], .cs = d->os[2]};
  fc_view add = {0};
  if (j->c)
    add = (fc_view){.p = (char *)j->c + (t * d->cs[0] + m0 * d->cs[1] + n0 * d->cs[2]) * es, .rs = d->cs[1], .cs = d->cs[2]};
  fc_epilogue ep = {d->alpha, d->beta, 0, j->bias ? j->bias + n0 * es : 0, d->act.kind, d->act.p0, d->act.p1};
  fc_product_piece(&j->p, (fc_operand){.pack = pack_strided, .work = &a}, (fc_operand){.pack = pack_strided, .work = &b}, m0, m1,
                   n0, n1, &out, &add, &ep, j->workspace + worker * j->scratch);
}

int fc_gemm_threads(const fc_gemm_desc *d, int nthreads) {
  return (double)d->batch * d->m * d->n * d->k < FC_SERIAL_MACS ? 1 : nthreads;
}

int64_t fc_gemm_workspace(const fc_gemm_desc *d, int nthreads) {
  gemm_job j;
  return prepare(&j, d, nthreads) ? -1 : fc_max(1, nthreads) * j.scratch + FC_ALIGN;
}

int fc_gemm_run(const fc_gemm_desc *d, const void *a, const void *b, const void *bias, const void *c, void *out, void *workspace,
                int nthreads) {
  gemm_job j = {.a = a, .b = b, .bias = bias, .c = c, .out = out, .workspace = fc_aligned(workspace)};
  int status = prepare(&j, d, nthreads);
  if (status) return status;
  return fc_parallel_for(nthreads, d->batch * j.pieces_m * j.pieces_n, piece, &j);
}
