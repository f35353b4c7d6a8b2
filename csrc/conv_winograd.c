/* 3x3 layers of stride 1 by Winograd's F(4x4, 3x3): 36 products of transformed patches and filters in the place of 144.
 * A piece is a number of 4 x 4 tiles of the result: their patches are transformed, multiplied by each frequency's
 * filters, and transformed back, all in cache. Backward-input is the same with the filters turned. */
#include "conv.h"

enum { FREQUENCIES = 36 };

/* Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters. */
#define FC_WINO_BYTES (1024 * 1024)

/* Fewer source or result channels than this, and the transforms cost more than they save. */
#define FC_WINO_CHANNELS 24

/* Fewer tiles than this, and transforming the filters does. */
#define FC_WINO_TILES 12

typedef struct sizes {
  int64_t sc, dc;             /* channels, whole vectors */
  int64_t high, wide, tiles;  /* tiles of an image: rows, columns; of all images */
  int64_t piece;              /* tiles of a piece */
  int64_t columns;            /* pixels of a strip's rows */
  int64_t v, m, strip, turned, tables, total;
} sizes;

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  sizes s;
  s.sc = fc_round_up(p->sc, kn->vl);
  s.dc = fc_round_up(p->dc, kn->nr);
  s.high = fc_div_up(p->dst[1], 4);
  s.wide = fc_div_up(p->dst[2], 4);
  s.tiles = p->d.n * s.high * s.wide;
  int64_t most = FC_WINO_BYTES / (FREQUENCIES * (s.sc + s.dc) * p->es) / kn->mr * kn->mr;
  most = fc_max(most, fc_round_up(36, kn->mr));
  const int64_t share = fc_div_up(s.tiles * p->d.groups, nthreads > 1 ? 3 * nthreads : 1);
  s.piece = fc_max(kn->mr, fc_min(most, fc_round_up(share, kn->mr)));
  s.columns = 4 * fc_min(s.wide, s.piece) + 2;
  s.v = fc_round_up(FREQUENCIES * s.piece * s.sc * p->es, FC_ALIGN);
  s.m = fc_round_up(FREQUENCIES * s.piece * s.dc * p->es, FC_ALIGN);
  s.strip = fc_round_up(6 * s.columns * kn->vl * p->es, FC_ALIGN);
  s.turned = fc_round_up(kn->vl * fc_round_up(s.columns, kn->vl) * p->es, FC_ALIGN);
  s.tables = fc_round_up((s.piece + fc_round_up(s.columns, kn->vl)) * (int64_t)sizeof(void *), FC_ALIGN);
  s.total = s.v + s.m + s.strip + s.turned + s.tables;
  return s;
}

/* ---- filters ---- */

typedef struct filter_call {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} filter_call;

static int64_t frequency_elements(const fc_conv_plan *p) { return fc_packed_elements(p->dc, p->kn->nr, p->sc); }

static int64_t packed_elements(const fc_conv_plan *p) { return p->d.groups * FREQUENCIES * frequency_elements(p); }

/* Some source channels' filters, for all lanes: read in the order in which they lie in memory. */
static void filter_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const filter_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_axis *ax = p->phases[0].ax;
  const int nr = p->kn->nr;
  const int64_t es = p->es, step = fc_filter_step(p), parts = fc_div_up(p->sc, step);
  const int64_t g = index / parts, c0 = index % parts * step, c1 = fc_min(p->sc, c0 + step),
                kstep = fc_product_kstep(p->kn, p->sc);
  double rows[FC_FILTER_ROWS * FC_MAX_LANES];
  /* Row i, column j of the filter as it is applied: the tap with the i-th offset, the j-th. */
  int order[9];
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 3; k++) {
      const int h = ax[1].off[0] < ax[1].off[2] ? i : 2 - i, w = ax[2].off[0] < ax[2].off[2] ? k : 2 - k;
      order[3 * i + k] = ax[1].tap[h] * 3 + ax[2].tap[w];
    }
  for (int64_t l = 0; l < p->dc; l += nr) {
    fc_filter_rows(p, j->w + g * p->d.ocg * p->d.ws[0] * es, nr, l, c0, c1, rows);
    for (int64_t c = c0, run; c < c1; c += run) {
      const int64_t k0 = c / kstep * kstep, k1 = fc_min(p->sc, k0 + kstep);
      run = fc_min(c1, k1) - c;
      const int64_t at = g * FREQUENCIES * frequency_elements(p) + fc_packed_at(p->dc, nr, l, k0, k1 - k0) + (c - k0) * nr;
      const fc_wino t = {.strip = (char *)rows + (c - c0) * 9 * nr * es,
                         .plane = j->packed + at * es,
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

/* Tiles of one row of tiles: n of them from (row, column) of an image. */
typedef struct run {
  int64_t image, row, column, n;
} run;

static run run_at(const sizes *s, int64_t tile, int64_t end) {
  const int64_t column = tile % s->wide, row = tile / s->wide % s->high;
  return (run){tile / s->wide / s->high, row, column, fc_min(s->wide - column, end - tile)};
}

static int64_t least(const fc_axis *a) { return fc_min(a->off[0], a->off[2]); }

/* Six rows of VL channels, pixel by pixel, zeros around the image. */
static void fill_strip(const fc_conv_plan *p, const sizes *s, const run *r, const char *src, int channels, char *strip) {
  const int vl = p->kn->vl;
  const int64_t es = p->es, h0 = 4 * r->row + least(&p->phases[0].ax[1]), w0 = 4 * r->column + least(&p->phases[0].ax[2]);
  const int64_t n = 4 * r->n + 2, from = fc_min(n, fc_max(0, -w0)), to = fc_max(from, fc_min(n, p->src[2] - w0)), pixel = vl * es;
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < vl; l++) off[l] = l * p->ss[1];
  for (int64_t i = 0; i < 6; i++) {
    char *row = strip + i * s->columns * pixel;
    if (h0 + i < 0 || h0 + i >= p->src[1] || from == to) {
      memset(row, 0, (size_t)(n * pixel));
      continue;
    }
    memset(row, 0, (size_t)(from * pixel));
    p->kn->pack(row + from * pixel, vl, channels, src + ((h0 + i) * p->ss[3] + (w0 + from) * p->ss[4]) * es, off, p->ss[4],
                to - from);
    memset(row + to * pixel, 0, (size_t)((n - to) * pixel));
  }
}

/* Four rows of VL channels to where they belong; where pixels are contiguous they are turned first. */
static void write_strip(const fc_conv_call *j, const sizes *s, const run *r, int64_t channel, int channels, const char *strip,
                        char *turned, int64_t *off) {
  const fc_conv_plan *p = j->p;
  const int vl = p->kn->vl;
  const int64_t es = p->es, *ds = p->ds, *as = p->d.as, ld = fc_round_up(4 * r->n, vl);
  const int64_t columns = fc_min(4 * r->n, p->dst[2] - 4 * r->column), rows = fc_min(4, p->dst[1] - 4 * r->row);
  const int turn = ds[4] == 1 && ds[1] != 1;
  const char *bias = j->bias ? j->bias + channel * es : 0;
  const fc_epilogue ep = {1, 1, turn ? bias : 0, turn ? 0 : bias, p->d.act.kind, p->d.act.p0, p->d.act.p1};
  for (int64_t i = 0; i < rows; i++) {
    const char *row = strip + i * s->columns * vl * es;
    const int64_t h = 4 * r->row + i, w = 4 * r->column;
    fc_block t = {
        .m = columns,
        .n = channels,
        .ep = &ep,
        .first = 1,
        .last = 1,
        .out = {.p = j->result + (r->image * ds[0] + channel * ds[1] + h * ds[3] + w * ds[4]) * es, .rs = ds[4], .cs = ds[1]}};
    if (j->add)
      t.add = (fc_view){
          .p = (char *)j->add + (r->image * as[0] + channel * as[1] + h * as[3] + w * as[4]) * es, .rs = as[4], .cs = as[1]};
    if (turn) {
      for (int64_t x = 0; x < ld; x++) off[x] = fc_min(x, 4 * r->n - 1) * vl;
      p->kn->pack(turned, (int)ld, (int)ld, row, off, 1, channels);
      row = turned;
      t.m = channels;
      t.n = columns;
      t.out.rs = ds[1];
      t.out.cs = ds[4];
      t.add.rs = as[1];
      t.add.cs = as[4];
    }
    p->kn->write(row, turn ? ld : vl, &t);
  }
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, (int)j->pieces_n);
  const int64_t es = p->es, per = fc_div_up(s.tiles, s.piece), g = index / per;
  const int64_t t0 = index % per * s.piece, t1 = fc_min(s.tiles, t0 + s.piece), n = t1 - t0;
  char *v = j->workspace + worker * j->scratch, *m = v + s.v, *strip = m + s.m, *turned = strip + s.strip;
  const void **at = (const void **)(turned + s.turned);
  int64_t *off = (int64_t *)(at + s.piece);
  run r;
  for (int64_t c = 0; c < p->sc; c += kn->vl)
    for (int64_t t = t0; t < t1; t += r.n) {
      r = run_at(&s, t, t1);
      const char *src = j->first + (r.image * p->ss[0] + (g * p->sc + c) * p->ss[1]) * es;
      fill_strip(p, &s, &r, src, (int)fc_min(kn->vl, p->sc - c), strip);
      const fc_wino w = {.strip = strip,
                         .columns = s.columns,
                         .plane = v + ((t - t0) * s.sc + c) * es,
                         .tiles = r.n,
                         .tile = s.sc,
                         .frequency = n * s.sc};
      kn->wino_input(&w);
    }
  const fc_product prod = {kn, es, n, p->dc, p->sc, fc_product_kstep(kn, p->sc)};
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_view none = {0};
  for (int64_t f = 0; f < FREQUENCIES; f++) {
    for (int64_t i = 0; i < n; i++) at[i] = v + (f * n + i) * s.sc * es;
    const fc_rows rows = {at, p->sc, n};
    const fc_view out = {.p = m + f * n * s.dc * es, .rs = s.dc, .cs = 1};
    const char *filters = j->packed + (g * FREQUENCIES + f) * frequency_elements(p) * es;
    fc_product_piece(&prod, (fc_operand){.rows = &rows}, (fc_operand){.packed = filters}, 0, n, 0, p->dc, &out, &none, &plain,
                     turned);
  }
  for (int64_t c = 0; c < p->dc; c += kn->vl)
    for (int64_t t = t0; t < t1; t += r.n) {
      r = run_at(&s, t, t1);
      const fc_wino w = {.strip = strip,
                         .columns = s.columns,
                         .plane = m + ((t - t0) * s.dc + c) * es,
                         .tiles = r.n,
                         .tile = s.dc,
                         .frequency = n * s.dc};
      kn->wino_output(&w);
      write_strip(j, &s, &r, g * p->dc + c, (int)fc_min(kn->vl, p->dc - c), strip, turned, off);
    }
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const sizes s = size(j->p, nthreads);
  j->pieces_n = nthreads; /* what the pieces were sized for */
  j->scratch = s.total;
  return j->p->d.groups * fc_div_up(s.tiles, s.piece);
}

static const char *refuse(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  if (d->direction == FC_BWD_WEIGHT) return "";
  if (d->ker[0] != 1 || d->ker[1] != 3 || d->ker[2] != 3 || d->in[0] != 1 || d->out[0] != 1 || d->pad[0] != 0)
    return "the kernel is not 3x3";
  if (d->stride[1] != 1 || d->stride[2] != 1 || d->dil[1] != 1 || d->dil[2] != 1) return "stride or dilation is not 1";
  if (d->strict) return "strict precision takes direct algorithms only";
  return 0;
}

static const char *slow(const fc_conv_plan *p) {
  if (p->sc < FC_WINO_CHANNELS || p->dc < FC_WINO_CHANNELS) return "too few channels to pay for the transforms";
  if (p->d.n * fc_div_up(p->dst[1], 4) * fc_div_up(p->dst[2], 4) < FC_WINO_TILES)
    return "too few tiles to pay for transforming the filters";
  return 0;
}

const fc_algorithm fc_conv_winograd = {"winograd_4x4_3x3", refuse, 0, packed_elements, pack, pieces, piece, slow};
