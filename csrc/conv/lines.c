/* Stems and grouped layers: vectors run over a group's channels of the result, and a copy of some rows of the source, padded with
 * zeros, is read where it is. Where channels are not contiguous, planes are turned into pixels by the copy, and results into
 * planes when they are written. */
#include "conv/conv.h"

/* What a plan of these algorithms knows: how far taps reach, rows of the result and groups of a piece, elements of a pixel and
 * of a row of the padded source that it copies, and pieces along d and h. */
typedef struct fields {
  int64_t low[3], span[3], rows, parts, pixel, pitch, chunks_d, chunks_h;
} fields;

static fields *own(const fc_conv_plan *p) { return p->state; }

/* Fewer channels of the result in a group leave too much of a vector empty. */
#define FC_LINES_RESULTS 8

/* The copy that a piece reads stays within this, */
#define FC_LINES_BYTES (160 * 1024)

/* of groups that have so many channels together, or one; */
#define FC_LINES_CHANNELS 64

/* and the gradient's sums take so many pixels at a time: their dy is to stay in the first cache. */
#define FC_LINES_PIXELS 256

/* Slices of the gradient's reduction, at most; rows of it that are written at a time. */
#define FC_LINES_SLICES 16
enum { FC_LINES_ROWS = 256 };

/* Pixels of a result that are turned into planes at a time: they stay in the first cache. */
#define FC_LINES_TURNED 128

/* Lanes of the panel that starts with lane l: a register tile, at the end one vector. */
static int64_t panel_lanes(const fc_conv_plan *p, int64_t channels, int64_t l) {
  return channels - l >= p->kn->nr ? p->kn->nr : p->kn->vl;
}

static int64_t lanes(const fc_conv_plan *p, int64_t channels) { return fc_round_up(channels, p->kn->vl); }

/* Taps along w in the order of their offsets: backward-input has them the other way round. */
static int column(const fc_axis *ax, int t) { return ax->ntap > 1 && ax->off[1] < ax->off[0] ? ax->ntap - 1 - t : t; }

/* Are the taps along w one run? Where they and the pixels of the copy are neighbours. */
static int merged(const fc_conv_plan *p, const fc_axis *ax) {
  return own(p)->pixel == p->src_channels && (ax->ntap < 2 || ax->off[column(ax, 1)] == ax->off[column(ax, 0)] + 1);
}

/* ---- the copy ---- */

static int64_t copied_rows(const fc_conv_plan *p, int64_t rows) {
  return (rows - 1) * p->phases[0].ax[1].src_step + own(p)->span[1];
}

static int64_t copy_bytes(const fc_conv_plan *p, int64_t rows) {
  return fc_round_up(own(p)->span[0] * copied_rows(p, rows) * own(p)->pitch * p->es, FC_ALIGN);
}

/* Moves n channels, so far apart, of so many pixels: the kernel reads whole vectors, and long runs are for memcpy. */
static void move(const fc_conv_plan *p, const char *from, int64_t channel, int64_t from_pixel, char *to, int64_t to_pixel,
                 int64_t n, int64_t pixels) {
  if (channel != 1 && n > FC_MAX_LANES) {
    /* Nobody chooses that, but who asks for it by name gets it. */
    for (int64_t i = 0; i < pixels; i++)
      for (int64_t k = 0; k < n; k++)
        fc_copy_element(p->es, to + (i * to_pixel + k) * p->es, from + (i * from_pixel + k * channel) * p->es);
    return;
  }
  if (channel != 1) {
    int64_t off[FC_MAX_LANES];
    for (int64_t i = 0; i < n; i++) off[i] = i * channel;
    p->kn->pack(to, (int)to_pixel, (int)n, from, off, from_pixel, pixels);
    return;
  }
  const fc_epilogue none = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_block t = {.m = pixels, .n = n, .ep = &none, .first = 1, .last = 1, .out = {.p = to, .rs = to_pixel, .cs = 1}};
  if (from_pixel == n && to_pixel == n)
    memcpy(to, from, (size_t)(pixels * n * p->es));
  else if (n % p->kn->vl || n * p->es >= 256)
    for (int64_t i = 0; i < pixels; i++) memcpy(to + i * to_pixel * p->es, from + i * from_pixel * p->es, (size_t)(n * p->es));
  else
    p->kn->write(from, from_pixel, &t);
}

/* Rows of the source that slice z, rows h0.. of the result see, those outside of the source left out. */
static void copy(const fc_conv_plan *p, const char *src, int64_t groups, int64_t z, int64_t h0, char *dst) {
  const fc_axis *ax = p->phases[0].ax;
  const int64_t es = p->es, pixel = own(p)->pixel * es, high = copied_rows(p, own(p)->rows);
  const int64_t wide = own(p)->pitch / own(p)->pixel, w0 = fc_min(wide, fc_max(0, -own(p)->low[2])),
                w1 = fc_max(w0, fc_min(wide, p->src_size[2] - own(p)->low[2]));
  const int64_t *ss = p->src_stride;
  for (int64_t d = 0; d < own(p)->span[0]; d++) {
    const int64_t sd = z * ax[0].src_step + own(p)->low[0] + d;
    if (sd < 0 || sd >= p->src_size[0]) continue;
    for (int64_t h = 0; h < high; h++) {
      const int64_t sh = h0 * ax[1].src_step + own(p)->low[1] + h;
      if (sh < 0 || sh >= p->src_size[1]) continue;
      char *to = dst + (d * high + h) * own(p)->pitch * es;
      memset(to, 0, (size_t)(w0 * pixel));
      move(p, src + (sd * ss[2] + sh * ss[3] + (own(p)->low[2] + w0) * ss[4]) * es, ss[1], ss[4], to + w0 * pixel, own(p)->pixel,
           groups * p->src_channels, w1 - w0);
      memset(to + w1 * pixel, 0, (size_t)((wide - w1) * pixel));
    }
  }
}

static void prepare(fc_conv_plan *p) {
  int64_t most[3];
  fc_reach(p, own(p)->low, own(p)->span, most);
  own(p)->parts = fc_min(p->d.groups, fc_max(1, FC_LINES_CHANNELS / p->src_channels));

  const int64_t step = p->phases[0].ax[2].src_step;
  own(p)->pixel = own(p)->parts * p->src_channels;
  /* The pixels of a tile are read at once: their addresses are to differ in the bits that choose a bank of the cache. */
  while (own(p)->parts > 1 && step * own(p)->pixel * p->es % 32 != 16 && step * p->es % 32) own(p)->pixel++;
  own(p)->pitch = ((most[2] - 1) * step + own(p)->span[2]) * own(p)->pixel;
  int64_t rows = most[1];
  if (p->d.direction == FC_BWD_WEIGHT) rows = fc_min(rows, fc_max(1, (p->d.groups > 1 ? 1 : 2) * FC_LINES_PIXELS / most[2]));
  while (rows > 1 && copy_bytes(p, rows) > FC_LINES_BYTES) rows--;
  own(p)->chunks_h = fc_div_up(most[1], rows);
  own(p)->rows = fc_div_up(most[1], own(p)->chunks_h);
  own(p)->chunks_d = most[0];
  int64_t packed = 0;
  for (int f = 0; f < p->nphase; f++) {
    p->phases[f].packed = packed;
    packed += p->d.groups * lanes(p, p->dst_channels) * p->phases[f].k;
  }
}

/* ---- filters: panels of lanes, in each taps (those along w by their offsets), then source channels ---- */

static int64_t packed_elements(const fc_conv_plan *p) {
  const fc_phase *last = &p->phases[p->nphase - 1];
  return last->packed + p->d.groups * lanes(p, p->dst_channels) * last->k;
}

typedef struct filters {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} filters;

static void pack_group(void *ctx, int64_t index, int worker) {
  (void)worker;
  const filters *j = ctx;
  const fc_conv_plan *p = j->p;
  const int64_t es = p->es, groups = p->d.groups, *ker = p->d.ker;
  const fc_phase *ph = &p->phases[index / groups];
  const fc_axis *ax = ph->ax;
  const char *w = j->w + index % groups * p->d.ocg * p->d.w_stride[0] * es;
  char *to = j->packed + (ph->packed + index % groups * lanes(p, p->dst_channels) * ph->k) * es;
  int64_t off[FC_MAX_LANES];
  for (int64_t l = 0, tile; l < p->dst_channels; l += tile) {
    tile = panel_lanes(p, p->dst_channels, l);
    for (int i = 0; i < tile; i++) off[i] = (l + i) * p->w_dst;
    for (int td = 0; td < ax[0].ntap; td++)
      for (int th = 0; th < ax[1].ntap; th++)
        for (int tw = 0; tw < ax[2].ntap; tw++) {
          const int64_t tap = (ax[0].tap[td] * ker[1] + ax[1].tap[th]) * ker[2] + ax[2].tap[column(&ax[2], tw)];
          p->kn->pack(to, (int)tile, (int)fc_min(tile, p->dst_channels - l), w + fc_tap_stride(&p->d, tap) * es, off, p->w_src,
                      p->src_channels);
          to += p->src_channels * tile * es;
        }
  }
}

static int pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  filters j = {p, w, packed};
  return fc_parallel_for(fc_conv_packers(p, nthreads), p->nphase * p->d.groups, pack_group, &j);
}

/* ---- forward, backward-input ---- */

static int64_t tables_bytes(int64_t runs) { return fc_round_up(2 * runs * (int64_t)sizeof(int64_t), FC_ALIGN); }

static int64_t turned_bytes(const fc_conv_plan *p) {
  return p->dst_stride[1] == 1 ? 0 : fc_round_up(FC_LINES_TURNED * p->kn->nr * p->es, FC_ALIGN);
}

/* The same where channels are not contiguous: some pixels at a time, with the epilogue when they are turned. */
static void turned_lines(const fc_conv_plan *p, const fc_lines *t, char *scratch) {
  const fc_epilogue none = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  fc_lines some = *t;
  fc_block to = t->out;
  some.out.ep = &none;
  some.out.out = (fc_view){.p = scratch, .rs = t->b_step, .cs = 1};
  some.out.add.p = 0;
  for (int64_t i = 0; i < t->out.m; i += FC_LINES_TURNED) {
    some.a = (const char *)t->a + i * t->a_row * p->es;
    some.out.m = to.m = fc_min(FC_LINES_TURNED, t->out.m - i);
    to.out.p = (char *)t->out.out.p + i * t->out.out.rs * p->es;
    if (t->out.add.p) to.add.p = (char *)t->out.add.p + i * t->out.add.rs * p->es;
    p->kn->lines(&some);
    p->kn->write(scratch, t->b_step, &to);
  }
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  (void)nthreads;
  j->scratch = copy_bytes(p, own(p)->rows) + tables_bytes(fc_product3(p->d.ker)) + turned_bytes(p) + FC_ALIGN;
  return p->d.n * fc_div_up(p->d.groups, own(p)->parts) * own(p)->chunks_d * own(p)->chunks_h;
}

/* The runs that a row of the result reads, of taps inside the source: where each starts in the copy and in the filters. */
static int64_t runs_of_row(const fc_conv_plan *p, const fc_phase *ph, int64_t z, int64_t h0, int64_t h, int64_t *a, int64_t *b) {
  const fc_axis *ax = ph->ax;
  const int64_t high = copied_rows(p, own(p)->rows);
  const int one = merged(p, &ax[2]);
  int64_t n = 0;
  for (int td = 0; td < ax[0].ntap; td++) {
    const int64_t sd = z * ax[0].src_step + ax[0].off[td];
    if (sd < 0 || sd >= p->src_size[0]) continue;
    for (int th = 0; th < ax[1].ntap; th++) {
      const int64_t sh = h * ax[1].src_step + ax[1].off[th];
      if (sh < 0 || sh >= p->src_size[1]) continue;
      const int64_t row = (ax[0].off[td] - own(p)->low[0]) * high + sh - h0 * ax[1].src_step - own(p)->low[1];
      for (int tw = 0; tw < (one ? fc_min(1, ax[2].ntap) : ax[2].ntap); tw++, n++) {
        a[n] = row * own(p)->pitch + (ax[2].off[column(&ax[2], tw)] - own(p)->low[2]) * own(p)->pixel;
        b[n] = ((int64_t)(td * ax[1].ntap + th) * ax[2].ntap + tw) * p->src_channels;
      }
    }
  }
  return n;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, *ds = p->dst_stride, *as = d->add_stride, shares = fc_div_up(d->groups, own(p)->parts);
  const int64_t h0 = index % own(p)->chunks_h * own(p)->rows, z = index / own(p)->chunks_h % own(p)->chunks_d;
  const int64_t share = index / own(p)->chunks_h / own(p)->chunks_d % shares,
                b = index / own(p)->chunks_h / own(p)->chunks_d / shares;
  const int64_t g0 = share * own(p)->parts, g1 = fc_min(d->groups, g0 + own(p)->parts);
  char *source = fc_aligned(j->workspace + worker * j->scratch);
  int64_t *a_off = (int64_t *)(source + copy_bytes(p, own(p)->rows)), *b_off = a_off + fc_product3(d->ker);
  char *turned = (char *)a_off + tables_bytes(fc_product3(d->ker));
  copy(p, j->first + (b * p->src_stride[0] + g0 * p->src_channels * p->src_stride[1]) * es, g1 - g0, z, h0, source);
  for (int f = 0; f < p->nphase; f++) {
    const fc_phase *ph = &p->phases[f];
    const fc_axis *ax = ph->ax;
    if (z >= ax[0].count) continue;
    const int64_t od = ax[0].dst_base + z * ax[0].dst_step, ow = ax[2].dst_base;
    for (int64_t h = h0; h < fc_min(ax[1].count, h0 + own(p)->rows); h++) {
      const int64_t oh = ax[1].dst_base + h * ax[1].dst_step, n = runs_of_row(p, ph, z, h0, h, a_off, b_off);
      /* Rows that the next piece copies, as far as they have not been: with each of this one's, in equal shares. */
      const int64_t later = (h + own(p)->rows - 1) * ax[1].src_step + own(p)->low[1] + own(p)->span[1];
      const int64_t panels = fc_div_up(p->dst_channels, p->kn->nr),
                    share = f || own(p)->parts < d->groups || p->src_stride[1] != 1
                                ? 0
                                : ax[1].src_step * p->src_stride[3] * es / panels;
      const char *next = j->first +
                         (b * p->src_stride[0] + z * ax[0].src_step * p->src_stride[2] + later * p->src_stride[3]) * es;
      for (int64_t g = g0; g < g1; g++)
        for (int64_t l = 0, tile; l < p->dst_channels; l += tile) {
          tile = panel_lanes(p, p->dst_channels, l);
          const int64_t channel = g * p->dst_channels + l;
          const fc_epilogue ep = {1, 1, 0, j->bias ? j->bias + channel * es : 0, d->act.kind, d->act.p0, d->act.p1};
          const fc_lines t = {
              .a = source + (g - g0) * p->src_channels * es,
              .b = j->packed + (ph->packed + (g * lanes(p, p->dst_channels) + l) * ph->k) * es,
              .a_off = a_off,
              .b_off = b_off,
              .a_row = ax[2].src_step * own(p)->pixel,
              .a_step = 1,
              .b_step = tile,
              .nrun = n,
              .run = (merged(p, &ax[2]) ? ax[2].ntap : 1) * p->src_channels,
              .next = next + l / p->kn->nr * share,
              .ahead = g > g0 ? 0 : share,
              .out = {.m = ax[2].count,
                      .n = fc_min(tile, p->dst_channels - l),
                      .ep = &ep,
                      .first = 1,
                      .last = 1,
                      .out = {.p = j->result + (b * ds[0] + channel * ds[1] + od * ds[2] + oh * ds[3] + ow * ds[4]) * es,
                              .rs = ax[2].dst_step * ds[4],
                              .cs = ds[1]},
                      .add = {.p = j->add ? (char *)j->add +
                                                (b * as[0] + channel * as[1] + od * as[2] + oh * as[3] + ow * as[4]) * es
                                          : 0,
                              .rs = ax[2].dst_step * as[4],
                              .cs = as[1]}},
          };
          if (ds[1] == 1)
            p->kn->lines(&t);
          else
            turned_lines(p, &t, turned);
        }
    }
  }
}

/* ---- backward-weight ---- */

static int64_t sums_bytes(const fc_conv_plan *p) {
  return fc_round_up(own(p)->parts * lanes(p, p->d.ocg) * p->phases[0].k * p->es, FC_ALIGN);
}

static int64_t dy_bytes(const fc_conv_plan *p) {
  return fc_round_up(own(p)->rows * p->d.y_size[2] * p->kn->nr * p->es, FC_ALIGN);
}

/* Without groups the reduction is cut into slices, as many as the layer alone says, so that bits do not depend on the
 * threads; their sums are added in their order. */
static int64_t weight_blocks(const fc_conv_plan *p) { return p->d.n * p->d.y_size[0] * own(p)->chunks_h; }

static int64_t weight_slices(const fc_conv_plan *p) { return p->d.groups > 1 ? 1 : fc_min(FC_LINES_SLICES, weight_blocks(p)); }

static int64_t weight_pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  (void)nthreads;
  j->shared = p->d.groups > 1 ? 0 : weight_slices(p) * sums_bytes(p);
  j->scratch = (p->d.groups > 1 ? sums_bytes(p) : 0) + copy_bytes(p, own(p)->rows) + dy_bytes(p) + tables_bytes(own(p)->rows) +
               FC_ALIGN;
  return fc_div_up(p->d.groups, own(p)->parts) * weight_slices(p);
}

/* The products of the copied rows and those rows of a panel of dy, added to the panel's sums, k rows of lanes. */
static void add_rows(const fc_conv_plan *p, int64_t z, int64_t h0, int64_t lanes, const char *source, const char *dy,
                     int64_t dy_pixel, int64_t *a_off, char *sums, int first) {
  const fc_axis *ax = p->phases[0].ax;
  const int64_t es = p->es, high = copied_rows(p, own(p)->rows), h1 = fc_min(p->d.y_size[1], h0 + own(p)->rows);
  const int64_t groups = merged(p, &ax[2]) ? 1 : ax[2].ntap;
  const fc_epilogue none = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  int64_t *b_off = a_off + own(p)->rows;
  for (int td = 0; td < ax[0].ntap; td++)
    for (int th = 0; th < ax[1].ntap; th++) {
      const int64_t sd = z * ax[0].src_step + ax[0].off[td];
      int64_t n = 0;
      for (int64_t h = h0; h < h1 && sd >= 0 && sd < p->src_size[0]; h++) {
        const int64_t sh = h * ax[1].src_step + ax[1].off[th];
        if (sh < 0 || sh >= p->src_size[1]) continue;
        a_off[n] = ((ax[0].off[td] - own(p)->low[0]) * high + sh - h0 * ax[1].src_step - own(p)->low[1]) * own(p)->pitch;
        b_off[n++] = (h - h0) * p->d.y_size[2];
      }
      if (!n && !first) continue;
      for (int tw = 0; tw < groups; tw++) {
        const fc_lines t = {
            .a = source + (ax[2].off[tw] - own(p)->low[2]) * own(p)->pixel * es,
            .b = dy,
            .a_off = a_off,
            .b_off = b_off,
            .a_row = 1,
            .a_step = ax[2].src_step * own(p)->pixel,
            .b_step = dy_pixel,
            .nrun = n,
            .run = p->d.y_size[2],
            .out = {.m = ax[2].ntap / groups * p->src_channels,
                    .n = lanes,
                    .ep = &none,
                    .first = first,
                    .last = 1,
                    .out = {.p = sums + ((int64_t)(td * ax[1].ntap + th) * ax[2].ntap + tw) * p->src_channels * lanes * es,
                            .rs = lanes,
                            .cs = 1}},
        };
        p->kn->lines(&t);
      }
    }
}

/* A panel's lanes of some rows of dy, one pixel after another. */
static void copy_dy(const fc_conv_plan *p, const char *dy, int64_t h0, int64_t n, int64_t lanes, char *dst) {
  const int64_t *ys = p->d.y_stride, wide = p->d.y_size[2];
  for (int64_t h = h0; h < fc_min(p->d.y_size[1], h0 + own(p)->rows); h++)
    move(p, dy + h * ys[3] * p->es, ys[1], ys[4], dst + (h - h0) * wide * lanes * p->es, lanes, n, wide);
}

/* The sums of groups g0..g1 to their filters. */
static void write_sums(const fc_conv_call *j, int64_t g0, int64_t g1, const char *sums) {
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, k = p->phases[0].k;
  const fc_epilogue none = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  int64_t roff[FC_LINES_ROWS];
  for (int64_t i0 = 0, i1; i0 < k; i0 = i1) {
    i1 = fc_min(k, i0 + FC_LINES_ROWS);
    for (int64_t i = i0; i < i1; i++) roff[i - i0] = fc_tap_stride(d, i / p->src_channels) + i % p->src_channels * d->w_stride[1];
    for (int64_t g = g0; g < g1; g++)
      for (int64_t l = 0, tile; l < d->ocg; l += tile) {
        tile = panel_lanes(p, d->ocg, l);
        const fc_block to = {
            .m = i1 - i0,
            .n = fc_min(tile, d->ocg - l),
            .ep = &none,
            .first = 1,
            .last = 1,
            .out = {.p = j->result + (g * d->ocg + l) * d->w_stride[0] * es, .roff = roff, .cs = d->w_stride[0]}};
        p->kn->write(sums + (((g - g0) * lanes(p, d->ocg) + l) * k + i0 * tile) * es, tile, &to);
      }
  }
}

static void weight_piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, k = p->phases[0].k, slices = weight_slices(p), slice = index % slices, all = weight_blocks(p);
  const int64_t g0 = index / slices * own(p)->parts, g1 = fc_min(d->groups, g0 + own(p)->parts), *ys = d->y_stride;
  char *source = fc_aligned(j->workspace + j->shared + worker * j->scratch), *dy = source + copy_bytes(p, own(p)->rows);
  int64_t *tables = (int64_t *)(dy + dy_bytes(p));
  char *sums = d->groups > 1 ? (char *)tables + tables_bytes(own(p)->rows) : j->workspace + slice * sums_bytes(p);
  /* A stem has too few taps to pay for a copy of dy. */
  const int in_place = ys[1] == 1 && d->groups == 1 && d->ocg % p->kn->vl == 0 && ys[3] == d->y_size[2] * ys[4];
  const int64_t first = slice * all / slices, last = (slice + 1) * all / slices;
  for (int64_t block = first; block < last; block++) {
    const int64_t b = block / own(p)->chunks_h / d->y_size[0], z = block / own(p)->chunks_h % d->y_size[0],
                  h0 = block % own(p)->chunks_h * own(p)->rows;
    copy(p, j->first + (b * d->x_stride[0] + g0 * p->src_channels * d->x_stride[1]) * es, g1 - g0, z, h0, source);
    for (int64_t g = g0; g < g1; g++)
      for (int64_t l = 0, tile; l < d->ocg; l += tile) {
        tile = panel_lanes(p, d->ocg, l);
        const char *from = j->second + (b * ys[0] + (g * d->ocg + l) * ys[1] + z * ys[2]) * es;
        if (in_place)
          from += h0 * ys[3] * es;
        else
          copy_dy(p, from, h0, fc_min(tile, d->ocg - l), tile, dy);
        add_rows(p, z, h0, tile, source + (g - g0) * p->src_channels * es, in_place ? from : dy, in_place ? ys[4] : tile, tables,
                 sums + ((g - g0) * lanes(p, d->ocg) + l) * k * es, block == first);
      }
  }
  if (d->groups > 1) write_sums(j, g0, g1, sums);
}

static int weight_execute(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int status = fc_parallel_for(nthreads, weight_pieces(j, nthreads), weight_piece, j);
  if (status || p->d.groups > 1) return status;
  for (int64_t slice = 1; slice < weight_slices(p); slice++)
    fc_add(j->workspace, j->workspace + slice * sums_bytes(p), lanes(p, p->d.ocg) * p->phases[0].k, p->es);
  write_sums(j, 0, 1, j->workspace);
  return FC_OK;
}

/* ---- which layers ---- */

static const char *slow(const fc_conv_plan *p) {
  if (p->d.groups > 1 && (p->src_stride[1] != 1 || p->dst_stride[1] != 1)) return "the channels of the groups are not contiguous";
  if (p->dst_channels < FC_LINES_RESULTS) return "a group's channels of the result do not fill vectors";
  if (p->d.groups > 1 ? p->src_channels > FC_LINES_CHANNELS : p->src_channels > FC_CHOOSE_DIRECT_CHANNELS)
    return "a group's channels fill register tiles";
  return fc_product3(p->d.ker) < FC_CHOOSE_DIRECT_TAPS ? "a result is a sum of few products" : 0;
}

const fc_algorithm fc_conv_lines = {
    .name = "direct_lines",
    .state = sizeof(fields),
    .directions = FC_OF_IMAGES,
    .prepare = prepare,
    .packed = packed_elements,
    .pack = pack,
    .pieces = pieces,
    .run = piece,
    .slow = slow,
};
const fc_algorithm fc_conv_weight_lines = {
    .name = "direct_lines",
    .state = sizeof(fields),
    .directions = FC_OF_WEIGHTS,
    .prepare = prepare,
    .pieces = weight_pieces,
    .execute = weight_execute,
    .slow = slow,
};
