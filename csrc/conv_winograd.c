/* 3x3 and 5x5 layers of stride 1 by Winograd's F(4x4, 3x3) and F(2x2, 5x5): 36 products of transformed patches and filters
 * in the place of 144, or 100. A piece is a number of tiles of the result: their patches are transformed, multiplied by
 * each frequency's filters, and transformed back, all in cache. Backward-input is the same with the filters turned. */
#include "winograd.h"

/* Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters. */
#define FC_WINO_BYTES (1024 * 1024)

typedef struct sizes {
  int64_t sc, dc;             /* channels, whole vectors */
  fc_wino_grid grid;
  int64_t piece;              /* tiles of a piece */
  int64_t columns;            /* pixels of a strip's rows */
  int64_t v, m, strip, tables, total;
} sizes;

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  sizes s = {.sc = fc_round_up(p->sc, kn->vl), .dc = fc_round_up(p->dc, kn->nr), .grid = fc_wino_tiles(p)};
  int64_t most = FC_WINO_BYTES / (FC_WINO_FREQUENCIES * (s.sc + s.dc) * p->es) / kn->mr * kn->mr;
  most = fc_max(most, fc_round_up(36, kn->mr));
  const int64_t share = fc_div_up(s.grid.all * p->d.groups, nthreads > 1 ? 3 * nthreads : 1);
  s.piece = fc_max(kn->mr, fc_min(most, fc_round_up(share, kn->mr)));
  s.columns = fc_wino_columns(&s.grid, s.piece);
  s.v = FC_WINO_FREQUENCIES * fc_wino_stride(s.piece * s.sc, p->es) * p->es;
  s.m = FC_WINO_FREQUENCIES * fc_wino_stride(s.piece * s.dc, p->es) * p->es;
  s.strip = fc_round_up(FC_WINO_SIDE * s.columns * kn->vl * p->es, FC_ALIGN);
  s.tables = fc_round_up(s.piece * (int64_t)sizeof(void *), FC_ALIGN);
  s.total = s.v + s.m + s.strip + s.tables;
  return s;
}

/* ---- what every form of the algorithm does ---- */

/* Row i, column j of the filter as it is applied: the tap with the i-th offset, the j-th. */
void fc_wino_order(const fc_conv_plan *p, int order[FC_WINO_TAPS]) {
  const fc_axis *h = &p->phases[0].ax[1], *w = &p->phases[0].ax[2];
  const int side = (int)p->d.ker[1], last = side - 1;
  for (int i = 0; i < side; i++)
    for (int j = 0; j < side; j++)
      order[side * i + j] = h->tap[h->off[0] < h->off[1] ? i : last - i] * side + w->tap[w->off[0] < w->off[1] ? j : last - j];
}

static int64_t least(const fc_axis *a) { return fc_min(a->off[0], a->off[a->ntap - 1]); }

/* Of a side of an image those pixels that the remainder of at sees: from which on, their number, how far apart. */
static int64_t thin(int64_t apart, int64_t *at, int64_t *size, int64_t *stride) {
  const int64_t rest = (*at % apart + apart) % apart, from = rest * *stride;
  *at = (*at - rest) / apart;
  *size = fc_div_up(*size - rest, apart);
  *stride *= apart;
  return from;
}

void fc_wino_strip(const fc_conv_plan *p, fc_strip s) {
  const int64_t from = thin(p->d.dil[1], &s.top, &s.high, &s.row) + thin(p->d.dil[2], &s.left, &s.wide, &s.pixel);
  s.src = (const char *)s.src + from * p->es;
  p->kn->wino_strip(&s);
}

void fc_wino_patches(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel) {
  const fc_conv_plan *p = j->p;
  const int64_t at = r->image * p->ss[0] + (group * p->sc + channel) * p->ss[1];
  const fc_strip f = {.strip = w->strip,
                      .columns = w->columns,
                      .rows = FC_WINO_SIDE,
                      .count = w->step * (r->n - 1) + FC_WINO_SIDE,
                      .src = j->first + at * p->es,
                      .channels = (int)fc_min(p->kn->vl, p->sc - channel),
                      .high = p->src[1],
                      .wide = p->src[2],
                      .top = r->row + least(&p->phases[0].ax[1]),
                      .left = r->column + least(&p->phases[0].ax[2]),
                      .channel = p->ss[1],
                      .row = p->ss[3],
                      .pixel = p->ss[4]};
  fc_wino_strip(p, f);
  p->kn->wino_input(w);
}

void fc_wino_results(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel) {
  const fc_conv_plan *p = j->p;
  const int64_t es = p->es, *ds = p->ds, *as = p->d.as, *dil = p->d.dil, c = group * p->dc + channel, x = r->column;
  const int64_t columns = fc_min(w->step * r->n, fc_div_up(p->dst[2] - x, dil[2])),
                rows = fc_min(w->step, fc_div_up(p->dst[1] - r->row, dil[1]));
  const fc_epilogue ep = {1, 1, 0, j->bias ? j->bias + c * es : 0, p->d.act.kind, p->d.act.p0, p->d.act.p1};
  p->kn->wino_output(w);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t y = r->row + i * dil[1];
    fc_block t = {
        .m = columns,
        .n = fc_min(p->kn->vl, p->dc - channel),
        .ep = &ep,
        .first = 1,
        .last = 1,
        .out = {.p = j->result + (r->image * ds[0] + c * ds[1] + y * ds[3] + x * ds[4]) * es, .rs = dil[2] * ds[4], .cs = ds[1]}};
    if (j->add)
      t.add = (fc_view){
          .p = (char *)j->add + (r->image * as[0] + c * as[1] + y * as[3] + x * as[4]) * es, .rs = dil[2] * as[4], .cs = as[1]};
    p->kn->write((char *)w->strip + i * w->columns * p->kn->vl * es, p->kn->vl, &t);
  }
}

/* ---- filters ---- */

typedef struct filter_call {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} filter_call;

static int64_t frequency_elements(const fc_conv_plan *p) {
  return fc_wino_stride(fc_packed_elements(p->dc, p->kn->nr, p->sc), p->es);
}

static int64_t packed_elements(const fc_conv_plan *p) { return p->d.groups * FC_WINO_FREQUENCIES * frequency_elements(p); }

/* Some source channels' filters, for all lanes: read in the order in which they lie in memory. */
static void filter_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const filter_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const int nr = p->kn->nr;
  const int64_t es = p->es, taps = fc_product3(p->d.ker), step = fc_filter_step(p), parts = fc_div_up(p->sc, step);
  const int64_t g = index / parts, c0 = index % parts * step, c1 = fc_min(p->sc, c0 + step),
                kstep = fc_product_kstep(p->kn, p->sc);
  double rows[FC_FILTER_ROWS * FC_MAX_LANES];
  int order[FC_WINO_TAPS];
  fc_wino_order(p, order);
  for (int64_t l = 0; l < p->dc; l += nr) {
    fc_filter_rows(p, j->w + g * p->d.ocg * p->d.ws[0] * es, nr, l, c0, c1, rows);
    for (int64_t c = c0, run; c < c1; c += run) {
      const int64_t k0 = c / kstep * kstep, k1 = fc_min(p->sc, k0 + kstep);
      run = fc_min(c1, k1) - c;
      const int64_t at = g * FC_WINO_FREQUENCIES * frequency_elements(p) + fc_packed_at(p->dc, nr, l, k0, k1 - k0) +
                         (c - k0) * nr;
      const fc_wino t = {.strip = (char *)rows + (c - c0) * taps * nr * es,
                         .plane = j->packed + at * es,
                         .step = fc_wino_step(p),
                         .tiles = run,
                         .tile = nr,
                         .frequency = frequency_elements(p)};
      p->kn->wino_weights(&t, order);
    }
  }
}

static int pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  filter_call j = {p, w, packed};
  return fc_parallel_for(fc_conv_plan_threads(p, nthreads), p->d.groups * fc_div_up(p->sc, fc_filter_step(p)), filter_piece, &j);
}

/* ---- tiles ---- */

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, j->threads);
  const int64_t es = p->es, per = fc_div_up(s.grid.all, s.piece), g = index / per;
  const int64_t t0 = index % per * s.piece, t1 = fc_min(s.grid.all, t0 + s.piece), n = t1 - t0;
  char *v = j->workspace + worker * j->scratch, *m = v + s.v, *strip = m + s.m;
  const void **at = (const void **)(strip + s.strip);
  const int64_t patches = fc_wino_stride(n * s.sc, es), products = fc_wino_stride(n * s.dc, es); /* of a frequency */
  fc_wino_run r;
  for (int64_t c = 0; c < p->sc; c += kn->vl)
    for (int64_t t = t0; t < t1; t += r.n) {
      r = fc_wino_run_at(&s.grid, t, t1);
      const fc_wino w = {.strip = strip,
                         .plane = v + ((t - t0) * s.sc + c) * es,
                         .columns = s.columns,
                         .step = s.grid.step,
                         .tiles = r.n,
                         .tile = s.sc,
                         .frequency = patches};
      fc_wino_patches(j, &w, &r, g, c);
    }
  const fc_product prod = {kn, es, n, fc_round_up(p->dc, kn->vl), p->sc, fc_product_kstep(kn, p->sc)};
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_view none = {0};
  for (int64_t f = 0; f < FC_WINO_FREQUENCIES; f++) {
    for (int64_t i = 0; i < n; i++) at[i] = v + (f * patches + i * s.sc) * es;
    const fc_rows rows = {at, p->sc, n};
    const fc_view out = {.p = m + f * products * es, .rs = s.dc, .cs = 1};
    const char *filters = j->packed + (g * FC_WINO_FREQUENCIES + f) * frequency_elements(p) * es;
    fc_product_piece(&prod, (fc_operand){.rows = &rows}, (fc_operand){.packed = filters}, 0, n, 0, prod.n, &out, &none, &plain,
                     strip);
  }
  for (int64_t c = 0; c < p->dc; c += kn->vl)
    for (int64_t t = t0; t < t1; t += r.n) {
      r = fc_wino_run_at(&s.grid, t, t1);
      const fc_wino w = {.strip = strip,
                         .plane = m + ((t - t0) * s.dc + c) * es,
                         .columns = s.columns,
                         .step = s.grid.step,
                         .tiles = r.n,
                         .tile = s.dc,
                         .frequency = products};
      fc_wino_results(j, &w, &r, g, c);
    }
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const sizes s = size(j->p, nthreads);
  j->threads = nthreads;
  j->scratch = s.total;
  return j->p->d.groups * fc_div_up(s.grid.all, s.piece);
}

static const char *refuse_3x3(const fc_conv_plan *p) { return p->d.direction == FC_BWD_WEIGHT ? "" : fc_wino_refuse(p, 3); }

static const char *refuse_5x5(const fc_conv_plan *p) { return p->d.direction == FC_BWD_WEIGHT ? "" : fc_wino_refuse(p, 5); }

const fc_algorithm fc_conv_winograd_3x3 = {
    .name = "winograd_4x4_3x3",
    .refuse = refuse_3x3,
    .packed = packed_elements,
    .pack = pack,
    .pieces = pieces,
    .run = piece,
    .slow = fc_wino_slow,
};
const fc_algorithm fc_conv_winograd_5x5 = {
    .name = "winograd_2x2_5x5",
    .refuse = refuse_5x5,
    .packed = packed_elements,
    .pack = pack,
    .pieces = pieces,
    .run = piece,
    .slow = fc_wino_slow,
};
