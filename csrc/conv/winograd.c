/* 3x3 and 5x5 layers of stride 1 by Winograd's F(4x4, 3x3) and F(2x2, 5x5): 36 products of transformed patches and filters
 * in the place of 144, or 100. A piece is a number of tiles of the result: their patches are transformed, multiplied by
 * each frequency's filters, and transformed back, all in cache. Backward-input is the same with the filters flipped. Taps
 * along a depth are more of the products' reduction. */
#include "conv/winograd.h"

/* Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters. */
#define FC_WINO_BYTES (1024 * 1024)

typedef struct sizes {
  int64_t sc, dc;             /* channels, whole vectors */
  fc_wino_grid grid;
  int64_t piece;              /* tiles of a piece, at most */
  fc_wino_cut cut;
  int64_t columns;            /* pixels of a strip's rows */
  int64_t v, m, strip, tables, zeros, total;
} sizes;

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  sizes s = {.sc = fc_round_up(p->src_channels, kn->vl), .dc = fc_round_up(p->dst_channels, kn->nr), .grid = fc_wino_tiles(p)};
  int64_t most = FC_WINO_BYTES / (FC_WINO_FREQUENCIES * (p->d.ker[0] * s.sc + s.dc) * p->es) / kn->mr * kn->mr;
  most = fc_max(most, fc_round_up(36, kn->mr));
  const int64_t share = fc_div_up(s.grid.all * p->d.groups, nthreads > 1 ? 3 * nthreads : 1);
  s.piece = fc_max(kn->mr, fc_min(most, fc_round_up(share, kn->mr)));
  s.cut = fc_wino_cut_of(s.grid.all, s.piece, kn->mr, nthreads);
  s.columns = fc_wino_columns(&s.grid, s.piece, s.grid.step, FC_WINO_SIDE);
  s.v = FC_WINO_FREQUENCIES * fc_wino_stride(fc_wino_window_most(p, &s.grid, s.piece) * s.sc, p->es) * p->es;
  s.m = FC_WINO_FREQUENCIES * fc_wino_stride(s.piece * s.dc, p->es) * p->es;
  s.strip = fc_round_up(FC_WINO_SIDE * s.columns * kn->vl * p->es, FC_ALIGN);
  s.tables = fc_round_up(p->d.ker[0] * s.piece * (int64_t)sizeof(void *), FC_ALIGN);
  s.zeros = fc_round_up(s.sc * p->es, FC_ALIGN);
  s.total = s.v + s.m + s.strip + s.tables + s.zeros;
  return s;
}

/* ---- what every form of the algorithm does ---- */

/* Of a slice. Backward-input, offsets fall as the taps rise. */
void fc_wino_order(const fc_conv_plan *p, int order[FC_WINO_TAPS]) {
  const int taps = (int)(p->d.ker[1] * p->d.ker[2]), back = p->d.direction == FC_BWD_INPUT;
  for (int i = 0; i < taps; i++) order[i] = back ? taps - 1 - i : i;
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

void fc_wino_read(const fc_conv_call *j, const fc_wino *w, int side, const fc_wino_run *r, int64_t group, int64_t channel) {
  const fc_conv_plan *p = j->p;
  const int64_t at = r->image * p->src_stride[0] + (group * p->src_channels + channel) * p->src_stride[1] +
                     r->slice * p->src_stride[2];
  const fc_strip f = {.strip = w->strip,
                      .columns = w->columns,
                      .rows = side,
                      .count = w->step * (r->n - 1) + side,
                      .src = j->first + at * p->es,
                      .channels = (int)fc_min(p->kn->vl, p->src_channels - channel),
                      .high = p->src_size[1],
                      .wide = p->src_size[2],
                      .top = r->row,
                      .left = r->column,
                      .channel = p->src_stride[1],
                      .row = p->src_stride[3],
                      .pixel = p->src_stride[4]};
  fc_wino_strip(p, f);
}

void fc_wino_patches(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel) {
  const fc_axis *ax = j->p->phases[0].ax;
  const fc_wino_run from = {r->slice, r->image, r->row + least(&ax[1]), r->column + least(&ax[2]), r->n};
  fc_wino_read(j, w, FC_WINO_SIDE, &from, group, channel);
  j->p->kn->wino_input(w);
}

void fc_wino_write(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel) {
  const fc_conv_plan *p = j->p;
  const int64_t es = p->es, *ds = p->dst_stride, *as = p->d.add_stride, *dil = p->d.dil, c = group * p->dst_channels + channel,
                x = r->column;
  const int64_t to = r->image * ds[0] + c * ds[1] + r->slice * ds[2], more = r->image * as[0] + c * as[1] + r->slice * as[2];
  const int64_t columns = fc_min(w->step * r->n, fc_div_up(p->dst_size[2] - x, dil[2])),
                rows = fc_min(w->step, fc_div_up(p->dst_size[1] - r->row, dil[1]));
  const fc_epilogue ep = {1, 1, 0, j->bias ? j->bias + c * es : 0, p->d.act.kind, p->d.act.p0, p->d.act.p1};
  for (int64_t i = 0; i < rows; i++) {
    const int64_t y = r->row + i * dil[1];
    fc_block t = {.m = columns,
                  .n = fc_min(p->kn->vl, p->dst_channels - channel),
                  .ep = &ep,
                  .first = 1,
                  .last = 1,
                  .out = {.p = j->result + (to + y * ds[3] + x * ds[4]) * es, .rs = dil[2] * ds[4], .cs = ds[1]}};
    if (j->add) t.add = (fc_view){.p = (char *)j->add + (more + y * as[3] + x * as[4]) * es, .rs = dil[2] * as[4], .cs = as[1]};
    p->kn->write((char *)w->strip + i * w->columns * p->kn->vl * es, p->kn->vl, &t);
  }
}

void fc_wino_results(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel) {
  j->p->kn->wino_output(w);
  fc_wino_write(j, w, r, group, channel);
}

int64_t fc_wino_together(const fc_conv_plan *p) {
  const int64_t blocks = fc_div_up(p->d.ker[0], fc_max(1, p->kn->kc / p->src_channels));
  return fc_div_up(p->d.ker[0], blocks);
}

int64_t fc_wino_window(const fc_conv_plan *p, const fc_wino_grid *g, int64_t t0, int64_t t1, fc_wino_patch w[FC_WINO_DEPTH]) {
  const int64_t all = p->src_size[0] * g->slice;
  int64_t rows = 0, end = 0;
  for (int64_t i = 0; i < p->d.ker[0]; i++) {
    const int64_t shift = fc_wino_shift(p, i) * g->slice;
    const int64_t a = fc_min(all, fc_max(0, t0 + shift)), b = fc_max(a, fc_min(all, t1 + shift)),
                  source = fc_max(a, fc_min(b, end));
    w[i] = (fc_wino_patch){source, b - source, rows, rows - source + t0 + shift, a - shift - t0, b - shift - t0};
    rows += b - source;
    end = fc_max(end, b);
  }
  return rows;
}

int64_t fc_wino_window_most(const fc_conv_plan *p, const fc_wino_grid *g, int64_t tiles) {
  const int64_t far = fc_wino_shift(p, p->d.ker[0] - 1) - fc_wino_shift(p, 0);
  return fc_min(p->d.ker[0] * tiles, tiles + far * g->slice);
}

void fc_wino_multiply(const fc_conv_plan *p, const fc_wino_grid *g, const fc_wino_product *m) {
  const fc_kernels *kn = p->kn;
  const int64_t es = p->es, taps = p->d.ker[0], together = fc_wino_together(p), all = m->t1 - m->t0;
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_view none = {0};
  for (int64_t i = 0, next; i < taps; i = next) {
    next = fc_min(taps, i + together);
    /* The slices that see any of these taps: as a whole, for the bits not to depend on where a piece is cut. */
    int64_t from = p->dst_size[0], to = 0;
    for (int64_t k = i; k < next; k++) {
      const int64_t shift = fc_wino_shift(p, k), a = fc_max(0, -shift), b = fc_min(p->dst_size[0], p->src_size[0] - shift);
      from = fc_min(from, a);
      to = fc_max(to, b);
    }
    from = fc_min(all, fc_max(0, from * g->slice - m->t0));
    to = fc_max(from, fc_min(all, to * g->slice - m->t0));
    const int64_t n = to - from, k = (next - i) * p->src_channels;
    const fc_product prod = {kn, es, n, m->columns, k, fc_product_kstep(kn, k), i > 0};
    for (int64_t f = 0; f < FC_WINO_FREQUENCIES; f++) {
      char *out = m->products + f * m->products_apart * es;
      if (i == 0) {
        memset(out, 0, (size_t)(from * m->product * es));
        memset(out + to * m->product * es, 0, (size_t)((all - to) * m->product * es));
      }
      if (n == 0) continue;
      for (int64_t t = i; t < next; t++) {
        const fc_wino_patch *w = m->w + t;
        for (int64_t r = from; r < to; r++)
          m->at[(t - i) * n + r - from] = r < w->from || r >= w->to
                                              ? m->zeros
                                              : m->patches + (f * m->patches_apart + (w->first + r) * m->patch) * es;
      }
      const fc_rows rows = {m->at, p->src_channels, n};
      const fc_view view = {.p = out + from * m->product * es, .rs = m->product, .cs = 1};
      const char *filters = m->filters + (f * m->filters_apart + i * p->src_channels * fc_round_up(m->columns, kn->nr)) * es;
      fc_product_piece(&prod, (fc_operand){.rows = &rows}, (fc_operand){.packed = filters}, 0, n, 0, prod.n, &view, &none, &plain,
                       0);
    }
  }
}

/* ---- filters ---- */

typedef struct filter_call {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} filter_call;

static int64_t frequency_elements(const fc_conv_plan *p) {
  return fc_wino_stride(fc_packed_elements(p->dst_channels, p->kn->nr, p->d.ker[0] * p->src_channels), p->es);
}

int64_t fc_wino_packed(const fc_conv_plan *p) { return p->d.groups * FC_WINO_FREQUENCIES * frequency_elements(p); }

const void *fc_wino_filters(const fc_conv_plan *p, const char *packed, int64_t group, int64_t frequency) {
  return packed + (group * FC_WINO_FREQUENCIES + frequency) * frequency_elements(p) * p->es;
}

/* Some source channels' filters, for all lanes: read in the order in which they lie in memory. */
static void filter_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const filter_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const int nr = p->kn->nr;
  const int64_t es = p->es, plane = p->d.ker[1] * p->d.ker[2], taps = fc_product3(p->d.ker), step = fc_filter_step(p),
                parts = fc_div_up(p->src_channels, step), together = fc_wino_together(p);
  const int64_t g = index / parts, c0 = index % parts * step, c1 = fc_min(p->src_channels, c0 + step);
  fc_filter_memory rows;
  int order[FC_WINO_TAPS];
  fc_wino_order(p, order);
  void *part = fc_range_open(p, fc_range_packed(p, j->packed), index);
  for (int64_t l = 0; l < p->dst_channels; l += nr) {
    fc_filter_rows(p, j->w + g * p->d.ocg * p->d.w_stride[0] * es, nr, l, c0, c1, &rows);
    fc_range_filters(p, &rows, c1 - c0, part);
    for (int64_t i = 0; i < p->d.ker[0]; i++) {
      const int64_t block = i / together * together, k = (fc_min(p->d.ker[0], block + together) - block) * p->src_channels,
                    kstep = fc_product_kstep(p->kn, k), k_of = (i - block) * p->src_channels;
      for (int64_t c = c0, run; c < c1; c += run) {
        const int64_t k0 = (k_of + c) / kstep * kstep, k1 = fc_min(k, k0 + kstep);
        run = fc_min(c1, k1 - k_of) - c;
        const int64_t at = g * FC_WINO_FREQUENCIES * frequency_elements(p) +
                           block * p->src_channels * fc_round_up(p->dst_channels, nr) +
                           fc_packed_at(p->dst_channels, nr, l, k0, k1 - k0) + (k_of + c - k0) * nr;
        const fc_wino t = {.strip = (char *)&rows + ((c - c0) * taps + fc_wino_tap(p, i) * plane) * nr * es,
                           .plane = j->packed + at * es,
                           .columns = taps,
                           .step = fc_wino_step(p),
                           .tiles = run,
                           .tile = nr,
                           .frequency = frequency_elements(p)};
        (p->d.stride[1] == 2 ? p->kn->wino2_weights : p->kn->wino_weights)(&t, order);
      }
    }
  }
  fc_range_close(p, part);
}

int fc_wino_pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  filter_call j = {p, w, packed};
  return fc_parallel_for(fc_conv_packers(p, nthreads), p->d.groups * fc_div_up(p->src_channels, fc_filter_step(p)), filter_piece,
                         &j);
}

/* ---- tiles ---- */

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, j->threads);
  const int64_t es = p->es, g = index / s.cut.count;
  const int64_t t0 = fc_wino_cut_at(&s.cut, index % s.cut.count), t1 = fc_wino_cut_at(&s.cut, index % s.cut.count + 1),
                n = t1 - t0;
  char *v = j->workspace + worker * j->scratch, *m = v + s.v, *strip = m + s.m, *zeros = strip + s.strip;
  fc_wino_patch window[FC_WINO_DEPTH];
  const int64_t patches = fc_wino_stride(fc_wino_window(p, &s.grid, t0, t1, window) * s.sc, es),
                products = fc_wino_stride(n * s.dc, es); /* of a frequency */
  fc_wino_run r;
  for (int64_t c = 0; c < p->src_channels; c += kn->vl)
    for (int64_t i = 0; i < p->d.ker[0]; i++)
      for (int64_t t = 0; t < window[i].count; t += r.n) {
        r = fc_wino_run_at(&s.grid, window[i].source + t, window[i].source + window[i].count);
        const fc_wino w = {.strip = strip,
                           .plane = v + ((window[i].at + t) * s.sc + c) * es,
                           .columns = s.columns,
                           .step = s.grid.step,
                           .tiles = r.n,
                           .tile = s.sc,
                           .frequency = patches};
        fc_wino_patches(j, &w, &r, g, c);
      }
  memset(zeros, 0, (size_t)s.zeros);
  const fc_wino_product product = {.w = window,
                                   .t0 = t0,
                                   .t1 = t1,
                                   .columns = fc_round_up(p->dst_channels, kn->vl),
                                   .patches = v,
                                   .filters = j->packed + g * FC_WINO_FREQUENCIES * frequency_elements(p) * es,
                                   .zeros = zeros,
                                   .products = m,
                                   .patch = s.sc,
                                   .patches_apart = patches,
                                   .filters_apart = frequency_elements(p),
                                   .product = s.dc,
                                   .products_apart = products,
                                   .at = (const void **)(zeros + s.zeros)};
  fc_wino_multiply(p, &s.grid, &product);
  for (int64_t c = 0; c < p->dst_channels; c += kn->vl)
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
  return j->p->d.groups * s.cut.count;
}

const fc_algorithm fc_conv_winograd_3x3 = {
    .name = "winograd_4x4_3x3",
    .directions = FC_OF_IMAGES,
    .parameter = 3,
    .refuse = fc_wino_refuse,
    .packed = fc_wino_packed,
    .pack = fc_wino_pack,
    .pieces = pieces,
    .run = piece,
    .slow = fc_wino_slow,
    .tile = fc_wino_tile,
};
const fc_algorithm fc_conv_winograd_5x5 = {
    .name = "winograd_2x2_5x5",
    .directions = FC_OF_IMAGES,
    .parameter = 5,
    .refuse = fc_wino_refuse,
    .packed = fc_wino_packed,
    .pack = fc_wino_pack,
    .pieces = pieces,
    .run = piece,
    .slow = fc_wino_slow,
    .tile = fc_wino_tile,
};
