/* The blocked matrix product that GEMM and every implicit-GEMM convolution share. */
#include "gemm/product.h"

/* Panels of b that are packed at a time where they are used once: they stay in L1 and L2. */
enum { FC_FEW_PANELS = 8 };

int64_t fc_product_kstep(const fc_kernels *kn, int64_t k) {
  int64_t blocks = fc_max(1, fc_div_up(k, kn->kc));
  return fc_max(8, fc_round_up(fc_div_up(k, blocks), 8));
}

int64_t fc_packed_elements(int64_t lanes, int tile, int64_t k) { return fc_round_up(lanes, tile) * k; }

int64_t fc_product_scratch(const fc_product *p, int64_t n) {
  return (fc_round_up(fc_min(p->kn->mc, p->m), p->kn->mr) + fc_round_up(n, p->kn->nr)) * fc_min(p->kstep, p->k) * p->es +
         2 * FC_ALIGN;
}

/* The view, and what of a row or column of bias, that start at (i, j). */
static fc_view view_at(const fc_view *v, int64_t i, int64_t j, int64_t es) {
  fc_view w = *v;
  if (!w.p) return w;
  if (w.roff)
    w.roff += i;
  else
    w.p = (char *)w.p + i * w.rs * es;
  if (w.coff) {
    w.coff += j;
    w.crun += j;
  } else {
    w.p = (char *)w.p + j * w.cs * es;
  }
  return w;
}

static const void *bias_at(const void *bias, int64_t i, int64_t es) { return bias ? (const char *)bias + i * es : 0; }

static const void *operand(const fc_operand *o, void *buffer, int64_t lanes, int tile, int64_t l0, int64_t l1, int64_t k0,
                           int64_t k1, int64_t es) {
  if (o->rows) return 0;
  if (o->in_place) return o->at + (l0 + k0 * o->step) * es;
  if (o->packed) return (const char *)o->packed + fc_packed_at(lanes, tile, l0, k0, k1 - k0) * es;
  o->pack(o->work, buffer, l0, l1, k0, k1);
  return buffer;
}

/* What a part of the work on one block of the reduction fetches of the next, k0 .. k1. */
static void fetch(fc_block *block, int which, const fc_operand *o, int64_t k0, int64_t k1, int64_t part, int64_t parts,
                  int64_t es) {
  if (!o->at || k0 == k1) return;
  block->ahead[which] = (k1 - k0) * o->step * es / parts;
  block->next[which] = o->at + k0 * o->step * es + part * block->ahead[which];
}

void fc_product_piece(const fc_product *p, fc_operand a, fc_operand b, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
                      const fc_view *out, const fc_view *add, const fc_epilogue *ep, void *scratch) {
  const fc_kernels *kn = p->kn;
  char *bbuf = fc_aligned(scratch);
  char *abuf = fc_aligned(bbuf + (b.packed ? 0 : fc_round_up(n1 - n0, kn->nr) * fc_min(p->kstep, p->k) * p->es));
  /* Rows that are read where they are take no buffer: more of them make more use of the other operand. */
  const int64_t mc = a.high ? a.high : a.rows || a.in_place ? m1 - m0 : kn->mc;
  /* With one block of rows a few panels of b at a time are packed, used, and forgotten while they are in the cache. */
  const int64_t nc = m1 - m0 <= mc && !b.packed && !b.in_place ? FC_FEW_PANELS * kn->nr : n1 - n0;
  const int64_t parts = fc_div_up(n1 - n0, nc) * fc_div_up(m1 - m0, mc);
  for (int64_t k0 = 0; k0 == 0 || k0 < p->k; k0 += p->kstep) {
    const int64_t k1 = fc_min(p->k, k0 + p->kstep), k2 = fc_min(p->k, k1 + p->kstep);
    int64_t part = 0;
    const void *ap = 0;
    for (int64_t j = n0; j < n1; j += nc) {
      const int64_t j1 = fc_min(n1, j + nc);
      const void *bp = operand(&b, bbuf, p->n, kn->nr, j, j1, k0, k1, p->es);
      for (int64_t i = m0; i < m1; i += mc) {
        const int64_t i1 = fc_min(m1, i + mc);
        if (j == n0 || mc < m1 - m0) ap = operand(&a, abuf, p->m, kn->mr, i, i1, k0, k1, p->es);
        fc_epilogue e = *ep;
        e.bias_row = bias_at(e.bias_row, i - m0, p->es);
        e.bias_col = bias_at(e.bias_col, j - n0, p->es);
        fc_block block = {
            .m = i1 - i,
            .n = j1 - j,
            .k = k1 - k0,
            .b = bp,
            .a_step = a.step,
            .b_row = b.step,
            .a_in_place = a.in_place,
            .b_in_place = b.in_place,
            .a = ap,
            .out = view_at(out, i - m0, j - n0, p->es),
            .add = view_at(add, i - m0, j - n0, p->es),
            .ep = &e,
            .rows = a.rows,
            .i0 = i - m0,
            .k0 = k0,
            .first = k0 == 0 && !p->sum,
            .last = k1 == p->k,
        };
        /* Of other pieces' lanes there must not be many. */
        if (2 * (m1 - m0) >= a.step) fetch(&block, 0, &a, k1, k2, part, parts, p->es);
        if (2 * (n1 - n0) >= b.step) fetch(&block, 1, &b, k1, k2, part, parts, p->es);
        part++;
        kn->block(&block);
      }
    }
  }
}

void fc_runs(const int64_t *coff, int32_t *crun, int64_t n) {
  for (int64_t j = n - 1; j >= 0; j--) crun[j] = j + 1 < n && coff[j + 1] == coff[j] + 1 ? crun[j + 1] + 1 : 1;
}

/* So many pieces of a side, or some more, that all threads get as many; one of less than two tiles packs too much. */
static int64_t shared(int64_t pieces, int64_t tiles, int64_t others, int nthreads) {
  int64_t more = pieces;
  while (more * others % nthreads && 2 * more < tiles) more++;
  return more * others % nthreads ? pieces : more;
}

void fc_partition(int64_t m, int64_t n, int mr, int nr, int64_t most_m, int64_t most_n, int64_t copies, int nthreads, int each,
                  int64_t *piece_m, int64_t *piece_n) {
  nthreads = nthreads > 1 ? nthreads : 1;
  int64_t pm = fc_min(fc_round_up(m, mr), most_m), pn = fc_min(fc_round_up(n, nr), most_n);
  const int64_t wanted = nthreads > 1 ? each * (int64_t)nthreads : 1;
  /* Halve the side that has more tiles until there is enough to hand out; a piece of few tiles packs too much. */
  while (copies * fc_div_up(m, pm) * fc_div_up(n, pn) < wanted) {
    if (pn > 2 * nr && (pn / nr >= pm / mr || pm <= 4 * mr))
      pn = fc_round_up(fc_div_up(pn, 2), nr);
    else if (pm > 4 * mr)
      pm = fc_round_up(fc_div_up(pm, 2), mr);
    else
      break;
  }
  int64_t high = fc_div_up(m, pm), wide = fc_div_up(n, pn);
  if (high > wide)
    high = shared(high, fc_div_up(m, mr), copies * wide, nthreads);
  else
    wide = shared(wide, fc_div_up(n, nr), copies * high, nthreads);
  /* Even out, so that the last piece is not a crumb. */
  *piece_m = fc_round_up(fc_div_up(m, high), mr);
  *piece_n = fc_round_up(fc_div_up(n, wide), nr);
}
