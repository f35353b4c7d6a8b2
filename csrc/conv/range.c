/* The reach of algorithms that mix the values of a tile: their error is a part of the largest values that a tile holds, also in
 * results whose windows hold small ones alone. So before a call the sizes of its values are looked at: of each pixel the sum of
 * the magnitudes of its channels, then the sums over tiles and over windows. A result whose window holds too small a part of
 * its tile, or whose tile is too large, too small, infinite or not a number, is computed directly, as all are if there are many.
 * This depends on the values alone, and so do the bits of the result. */
#include "core/check.h"
#include "conv/winograd.h"

/* A window may hold this many times less of its tile than it would if all values were alike. The error of its result is then up
 * to 16 times the common one, which is still within the millionths that are promised of each. */
#define FC_RANGE_RATIO 16

/* If more than one result in this many has to be computed directly, all are. */
#define FC_RANGE_MOST 4

/* Pixels of a piece of work. */
#define FC_RANGE_PIXELS 4096

/* Elements of the source from which on a second thread is worth waking. */
#define FC_RANGE_SERIAL (1 << 18)

/* Channels of a piece, where they are looked at one by one. */
#define FC_RANGE_CHANNELS 64

/* The taps that a result sees hold at least one part in this many of the filters, or Winograd is not trusted with them. */
#define FC_RANGE_TAPS 1024

/* Results at either end of a dimension that are asked which taps they see. */
#define FC_RANGE_ENDS 32

/* Taps of filters that are added up at a time. */
#define FC_RANGE_TOGETHER 16

/* Channels are looked at one by one if a pixel holds so many times what one does on average. */
#define FC_RANGE_PEAK 32

/* Parts that the sums over a gradient's tiles are made in. */
#define FC_RANGE_PARTS 16

/* The least and the largest sum of a tile, so that nothing made of it overflows, or loses bits by being small; the largest sum of
 * filters. */
#define FC_RANGE_LOW 0x1p-64
#define FC_RANGE_HIGH 0x1p64
#define FC_RANGE_LOW64 0x1p-512
#define FC_RANGE_HIGH64 0x1p512
#define FC_RANGE_FILTERS 0x1p48
#define FC_RANGE_FILTERS64 0x1p480

static int within(double value, int64_t es) {
  return es == 4 ? value >= FC_RANGE_LOW && value <= FC_RANGE_FILTERS : value >= FC_RANGE_LOW64 && value <= FC_RANGE_FILTERS64;
}

static int strided_back(const fc_conv_plan *p) { return p->d.direction == FC_BWD_INPUT && p->d.stride[1] == 2; }

/* Along a dimension, where a tile's pixels start whose first result is given. */
static int64_t source(const fc_conv_plan *p, int i, int64_t result) {
  const fc_axis *a = &p->phases[0].ax[i];
  if (i && strided_back(p)) return fc_wino2_source(p, i, result);
  return result * a->src_step + fc_min(a->off[0], a->off[a->ntap - 1]);
}

/* Does a result read the pixel? */
static int reads(const fc_conv_plan *p, int i, int64_t result, int64_t pixel) {
  const fc_axis *a = &p->phases[0].ax[i];
  if (strided_back(p)) return fc_between(result + p->d.pad[i] - 2 * pixel, 0, p->d.ker[i] - 1);
  for (int t = 0; t < a->ntap; t++)
    if (result * a->src_step + a->off[t] == pixel) return 1;
  return 0;
}

/* Does a result see a tap? */
static int sees(const fc_conv_plan *p, int i, int64_t result, int t) {
  const fc_axis *a = &p->phases[0].ax[i];
  int64_t pixel = 0;
  if (strided_back(p)) {
    pixel = result + p->d.pad[i] - t * p->d.dil[i];
    return pixel >= 0 && pixel % p->d.stride[i] == 0 && pixel / p->d.stride[i] < p->src_size[i];
  }
  pixel = result * a->src_step + a->off[t];
  return pixel >= 0 && pixel < p->src_size[i];
}

/* The sets of taps that results at either end of a dimension see. Where there are too many taps, only all of them. */
static void prepare_sets(fc_conv_plan *p, int i) {
  const int64_t taps = p->d.ker[i], ends = FC_RANGE_ENDS, size = p->dst_size[i];
  int *sets = p->range.taps[i], n = 0;
  for (int64_t k = 0; k < fc_min(size, 2 * ends) && taps < 16; k++) {
    const int64_t result = size <= 2 * ends || k < ends ? k : size - 2 * ends + k;
    int set = 0, old = 0;
    for (int t = 0; t < taps; t++) set |= sees(p, i, result, t) << (strided_back(p) ? t : p->phases[0].ax[i].tap[t]);
    for (int s = 0; s < n; s++) old |= sets[s] == set;
    if (set && !old && n < FC_RANGE_SETS) sets[n++] = set;
  }
  if (n == 0) sets[n++] = -1;
  p->range.sets[i] = n;
}

void fc_range_prepare(fc_conv_plan *p) {
  p->range = (fc_range){.ratio = FC_RANGE_RATIO};
  for (int i = 0; i < 3; i++) {
    prepare_sets(p, i);
    const fc_tile_side tile = p->algorithm->tile(p, i);
    fc_look_side *s = &p->range.side[i];
    s->step = tile.step;
    s->side = tile.side;
    s->spread = p->d.dil[i];
    if (p->d.direction == FC_BWD_WEIGHT) {
      if (tile.step > 1) p->range.ratio *= (double)tile.side;
      continue;
    }
    int fewest = (int)tile.side;
    for (int64_t r = 0; r < tile.step && tile.side <= FC_LINE_POINTS; r++) {
      int all[FC_LINE_POINTS], n = 0;
      for (int k = 0; k < tile.side; k++)
        if (tile.step == 1 || reads(p, i, r * p->d.dil[i], source(p, i, 0) + k * s->spread)) {
          s->readers[k] |= 1 << r;
          all[n++] = k;
        }
      s->middle[r] = all[n / 2];
      if (n < fewest) fewest = n;
    }
    p->range.ratio *= (double)tile.side / fewest;
  }
}

/* ---- filters ---- */

int64_t fc_range_parts(const fc_conv_plan *p) {
  return p->algorithm->execute ? fc_div_up(p->dst_channels, p->kn->nr) : fc_div_up(p->src_channels, fc_filter_step(p));
}

/* A part has room for a number of each tap and lane, as they are added up; in the end it holds one of each tap. */
static int64_t part_bytes(const fc_conv_plan *p) {
  return fc_round_up(fc_product3(p->d.ker) * fc_max(p->kn->nr * p->es, (int64_t)sizeof(double)), FC_ALIGN);
}

int64_t fc_range_parts_bytes(const fc_conv_plan *p) { return p->d.groups * fc_range_parts(p) * part_bytes(p); }

void *fc_range_open(const fc_conv_plan *p, const void *parts, int64_t part) {
  return memset((char *)parts + part * part_bytes(p), 0, (size_t)part_bytes(p));
}

void *fc_range_packed(const fc_conv_plan *p, const char *packed) {
  return (char *)packed + fc_round_up(p->algorithm->packed(p) * p->es, FC_ALIGN);
}

static double number(const void *at, int64_t i, int64_t es) { return es == 4 ? ((const float *)at)[i] : ((const double *)at)[i]; }

void fc_range_filters(const fc_conv_plan *p, const void *rows, int64_t channels, void *part) {
  const int64_t taps = fc_product3(p->d.ker), lanes = p->kn->nr, es = p->es;
  double sums[FC_RANGE_TOGETHER * FC_MAX_LANES];
  for (int64_t t = 0; t < taps; t += FC_RANGE_TOGETHER) {
    const fc_norms n = {.src = (const char *)rows + t * lanes * es,
                        .pixel = 1,
                        .channel = taps * lanes,
                        .count = fc_min(FC_RANGE_TOGETHER, taps - t) * lanes,
                        .channels = channels,
                        .to = sums};
    p->kn->norms(&n);
    p->kn->norms_add((char *)part + t * lanes * es, 0, sums, n.count);
  }
}

void fc_range_close(const fc_conv_plan *p, void *part) {
  const int64_t taps = fc_product3(p->d.ker), lanes = p->kn->nr;
  for (int64_t t = 0; t < taps; t++) {
    double sum = 0;
    for (int64_t l = 0; l < lanes; l++) sum += number((const char *)part + t * lanes * p->es, l, p->es);
    memcpy((char *)part + t * (int64_t)sizeof sum, &sum, sizeof sum);
  }
}

/* Results at a border do not see all taps: do those that any of them sees hold enough of the filters? */
static int filters_fine(const fc_conv_plan *p, const char *parts) {
  const fc_range *r = &p->range;
  const int64_t *ker = p->d.ker, taps = fc_product3(ker), many = fc_range_parts(p);
  for (int64_t g = 0; g < p->d.groups; g++, parts += many * part_bytes(p)) {
    double all = 0;
    for (int64_t k = 0; k < many; k++)
      for (int64_t t = 0; t < taps; t++) all += number(parts + k * part_bytes(p), t, sizeof all);
    if (all == 0) continue;
    if (!within(all, p->es)) return 0;
    for (int s = 0; s < r->sets[0] * r->sets[1] * r->sets[2]; s++) {
      const int set[3] = {s / r->sets[2] / r->sets[1], s / r->sets[2] % r->sets[1], s % r->sets[2]};
      double seen = 0;
      for (int64_t t = 0; t < taps; t++) {
        const int64_t at[3] = {t / ker[2] / ker[1], t / ker[2] % ker[1], t % ker[2]};
        int visible = 1;
        for (int i = 0; i < 3; i++) visible &= r->taps[i][set[i]] >> at[i] & 1;
        for (int64_t k = 0; k < many && visible; k++) seen += number(parts + k * part_bytes(p), t, sizeof seen);
      }
      if (!(all <= FC_RANGE_TAPS * seen)) return 0;
    }
  }
  return 1;
}

/* ---- looking ---- */

/* A look at the values of a call. x: the source of a result, or of a gradient of filters; y: that gradient's other operand.
 * rows: of tiles, down all images. */
typedef struct look {
  const fc_conv_call *call;
  fc_wino_side side[3];
  int64_t rows, buffer;
  char *x, *y, *buffers, *spread;
  unsigned char *flags;
  int64_t *counts;
  int32_t *list;
  double *parts;
} look;

static int64_t images(const fc_conv_plan *p) { return p->d.n * p->d.groups; }
static int64_t results(const fc_conv_plan *p) { return p->d.n * fc_product3(p->dst_size); }

/* Taps that are rows of their own, and those that a row's tiles are for. */
static int64_t tap_rows(const fc_conv_plan *p, int i) { return p->range.side[i].step > 1 ? 1 : p->d.ker[i]; }
static int64_t taps(const fc_conv_plan *p, int i) { return p->d.ker[i] / tap_rows(p, i); }

/* What a part of the rows of tiles adds to a row of taps: the products of what tiles hold of both operands, tiles beyond the
 * range, and of each tap the products of what it multiplies. */
static int64_t part_size(const fc_conv_plan *p) { return 2 + fc_product3(p->d.ker); }

/* Groups' rows of taps. */
static int64_t tap_parts(const fc_conv_plan *p) { return p->d.groups * tap_rows(p, 0) * tap_rows(p, 1) * tap_rows(p, 2); }

/* The parts of the scratch; returns how many bytes they are. */
static int64_t lay_out(const fc_conv_plan *p, int nthreads, look *l, char *memory) {
  const int weight = p->d.direction == FC_BWD_WEIGHT;
  l->rows = p->d.n;
  for (int i = 0; i < 3; i++) {
    const int64_t step = p->range.side[i].step;
    l->side[i] = fc_wino_side_of(p->dst_size[i], step > 1 ? p->d.dil[i] : 1, step);
    if (i < 2) l->rows *= l->side[i].all;
  }
  const int64_t kept = weight ? 2 : 2 + p->range.side[0].step * p->range.side[1].step;
  l->buffer = fc_round_up(kept * fc_max(p->src_size[2], p->dst_size[2]) * p->es, FC_ALIGN);
  int64_t at = 0;
#define FC_PART(part, bytes) (l->part = (void *)(memory + at), at += fc_round_up(bytes, FC_ALIGN))
  FC_PART(x, images(p) * fc_product3(p->src_size) * p->es);
  FC_PART(buffers, fc_max(1, nthreads) * l->buffer);
  FC_PART(counts, l->rows * (int64_t)sizeof *l->counts);
  if (weight) {
    FC_PART(y, images(p) * fc_product3(p->dst_size) * p->es);
    FC_PART(spread, 2 * p->d.groups * fc_max(p->d.icg, p->d.ocg) * p->es);
    FC_PART(parts, tap_parts(p) * FC_RANGE_PARTS * part_size(p) * (int64_t)sizeof *l->parts);
  } else {
    FC_PART(flags, results(p));
    FC_PART(list, (results(p) / FC_RANGE_MOST + 1) * (int64_t)sizeof *l->list);
  }
#undef FC_PART
  return at;
}

int64_t fc_range_workspace(const fc_conv_plan *p, int nthreads) {
  look l;
  return lay_out(p, nthreads, &l, 0) + FC_ALIGN;
}

/* Of an array (n, channel, d, h, w) the magnitudes of each group's channels, added up. */
typedef struct norm_job {
  const fc_conv_plan *p;
  const char *from;
  char *to;
  const int64_t *size, *strides;
  int64_t channels, rows; /* rows of a piece */
} norm_job;

static int64_t norm_pieces(const norm_job *j) { return images(j->p) * j->size[0] * fc_div_up(j->size[1], j->rows); }

static void norm_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const norm_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const int64_t *s = j->strides, *size = j->size, parts = fc_div_up(size[1], j->rows), plane = index / parts,
                image = plane / size[0], g = image % p->d.groups, h = index % parts * j->rows,
                rows = fc_min(j->rows, size[1] - h);
  const int64_t at = image / p->d.groups * s[0] + g * j->channels * s[1] + plane % size[0] * s[2] + h * s[3];
  fc_norms t = {.src = j->from + at * p->es,
                .pixel = s[4],
                .channel = s[1],
                .count = size[2],
                .channels = j->channels,
                .to = j->to + (plane * size[1] + h) * size[2] * p->es};
  if (s[3] == size[2] * s[4]) {
    t.count *= rows;
    p->kn->norms(&t);
    return;
  }
  for (int64_t i = 0; i < rows; i++) {
    p->kn->norms(&t);
    t.src = (const char *)t.src + s[3] * p->es;
    t.to = (char *)t.to + size[2] * p->es;
  }
}

static int norms(const fc_conv_plan *p, const char *from, const int64_t size[3], const int64_t strides[5], int64_t channels,
                 char *to, int nthreads) {
  norm_job j = {p, from, to, size, strides, channels, fc_max(1, fc_min(size[1], FC_RANGE_PIXELS / size[2]))};
  return fc_parallel_for(nthreads, norm_pieces(&j), norm_piece, &j);
}

/* Of row number index of tiles, which image, and along d and h the first result, and how many there are. */
static int64_t row_at(const look *l, int64_t index, int64_t first[2], int64_t count[2]) {
  const fc_conv_plan *p = l->call->p;
  int64_t left;
  for (int i = 1; i >= 0; i--) {
    const fc_wino_side *s = &l->side[i];
    const int64_t step = p->range.side[i].step;
    first[i] = fc_wino_side_at(s, index % s->all, step, &left);
    count[i] = fc_min(step, fc_div_up(s->size - first[i], s->apart));
    index /= s->all;
  }
  return index;
}

/* A row of the sums of an image's pixels; NULL in the padding. */
static const char *row_of(const fc_conv_plan *p, const char *sums, const int64_t size[3], int64_t image, int64_t d, int64_t h) {
  if (!fc_between(d, 0, size[0] - 1) || !fc_between(h, 0, size[1] - 1)) return 0;
  return sums + ((image * size[0] + d) * size[1] + h) * size[2] * p->es;
}

static void look_piece(void *ctx, int64_t index, int worker) {
  const look *l = ctx;
  const fc_conv_plan *p = l->call->p;
  const fc_look_side *side = p->range.side;
  const int64_t es = p->es, wide = p->src_size[2], groups = p->d.groups;
  char *whole = l->buffers + worker * l->buffer, *most = whole + wide * es, *windows = most + wide * es;
  int64_t first[2], count[2], flag_at[FC_LOOK_STEP], total = 0;
  const int64_t n = row_at(l, index, first, count), d0 = source(p, 0, first[0]), h0 = source(p, 1, first[1]);
  for (int64_t i = 0; i < count[0] * count[1]; i++) {
    const int64_t d = first[0] + i / count[1] * l->side[0].apart, h = first[1] + i % count[1] * l->side[1].apart;
    flag_at[i] = ((n * p->dst_size[0] + d) * p->dst_size[1] + h) * p->dst_size[2];
  }
  for (int64_t g = 0; g < groups; g++) {
    memset(whole, 0, (size_t)((2 + count[0] * count[1]) * wide * es));
    int64_t read = 0;
    for (int64_t i = 0; i < side[0].side; i++)
      for (int64_t k = 0; k < side[1].side; k++) {
        const char *row = row_of(p, l->x, p->src_size, n * groups + g, d0 + i * side[0].spread, h0 + k * side[1].spread);
        if (!row) continue;
        p->kn->norms_add(whole, most, row, wide);
        read++;
        for (int64_t r = 0; r < count[0] * count[1]; r++)
          if ((side[0].step == 1 || side[0].readers[i] >> r / count[1] & 1) &&
              (side[1].step == 1 || side[1].readers[k] >> r % count[1] & 1))
            p->kn->norms_add(windows + r * wide * es, 0, row, wide);
      }
    for (int64_t t = 0, left; t < l->side[2].all; t += left) {
      const int64_t x = fc_wino_side_at(&l->side[2], t, side[2].step, &left), apart = l->side[2].apart;
      const fc_look look = {.side = &side[2],
                            .whole = whole,
                            .most = most,
                            .windows = windows,
                            .read = read,
                            .row = wide,
                            .size = wide,
                            .first = source(p, 2, x),
                            .hop = source(p, 2, x + side[2].step * apart) - source(p, 2, x),
                            .tiles = left,
                            .left = fc_div_up(p->dst_size[2] - x, apart),
                            .rows = (int)(count[0] * count[1]),
                            .low = es == 4 ? FC_RANGE_LOW : FC_RANGE_LOW64,
                            .high = es == 4 ? FC_RANGE_HIGH : FC_RANGE_HIGH64,
                            .ratio = p->range.ratio,
                            .flags = l->flags + x,
                            .flag_at = flag_at,
                            .flag_step = apart,
                            .count = &total};
      p->kn->look(&look);
    }
  }
  l->counts[index] = total;
}

/* ---- gradients of filters ---- */

static void weight_row(const look *l, int64_t index, int64_t g, const int64_t tap[3], char *whole, double *sums) {
  const fc_conv_plan *p = l->call->p;
  const fc_look_side *side = p->range.side;
  const fc_axis *ax = p->phases[0].ax;
  const int64_t es = p->es, wide = p->src_size[2], out = p->dst_size[2];
  char *gradients = whole + wide * es;
  int64_t first[2], count[2], from[3], many[3], beyond = 0;
  const int64_t image = row_at(l, index, first, count) * p->d.groups + g;
  for (int i = 0; i < 3; i++) {
    from[i] = side[i].step > 1 ? 0 : tap[i] * side[i].spread;
    many[i] = side[i].step > 1 ? side[i].side : 1;
  }
  memset(whole, 0, (size_t)((wide + out) * es));
  for (int64_t i = 0; i < many[0] * many[1]; i++) {
    const int64_t d = source(p, 0, first[0]) + from[0] + i / many[1] * side[0].spread,
                  h = source(p, 1, first[1]) + from[1] + i % many[1] * side[1].spread;
    const char *row = row_of(p, l->x, p->src_size, image, d, h);
    if (row) p->kn->norms_add(whole, 0, row, wide);
  }
  for (int64_t i = 0; i < count[0] * count[1]; i++) {
    const int64_t d = first[0] + i / count[1] * l->side[0].apart, h = first[1] + i % count[1] * l->side[1].apart;
    const char *row = row_of(p, l->y, p->dst_size, image, d, h);
    p->kn->norms_add(gradients, 0, row, out);
    for (int64_t t = 0, all = taps(p, 0) * taps(p, 1) * taps(p, 2); t < all; t++) {
      const int64_t at[3] = {tap[0] + t / taps(p, 2) / taps(p, 1), tap[1] + t / taps(p, 2) % taps(p, 1), tap[2] + t % taps(p, 2)};
      const int64_t step = ax[2].src_step, off = ax[2].off[at[2]], x0 = off < 0 ? fc_div_up(-off, step) : 0,
                    x1 = fc_min(out, off < wide ? (wide - 1 - off) / step + 1 : 0);
      const char *read = row_of(p, l->x, p->src_size, image, d * ax[0].src_step + ax[0].off[at[0]],
                                h * ax[1].src_step + ax[1].off[at[1]]);
      if (read && x0 < x1)
        p->kn->norms_dot(row + x0 * es, read + (x0 * step + off) * es, step, x1 - x0,
                         sums + 2 + (at[0] * p->d.ker[1] + at[1]) * p->d.ker[2] + at[2]);
    }
  }
  for (int64_t t = 0, left; t < l->side[2].all; t += left) {
    const int64_t x = fc_wino_side_at(&l->side[2], t, side[2].step, &left), apart = l->side[2].apart;
    const fc_look look = {.side = &side[2],
                          .whole = whole,
                          .windows = gradients + x * es,
                          .size = wide,
                          .first = source(p, 2, x) + from[2],
                          .hop = source(p, 2, x + side[2].step * apart) - source(p, 2, x),
                          .tiles = left,
                          .left = fc_div_up(out - x, apart),
                          .low = es == 4 ? FC_RANGE_LOW : FC_RANGE_LOW64,
                          .high = es == 4 ? FC_RANGE_HIGH : FC_RANGE_HIGH64,
                          .flag_step = apart,
                          .count = &beyond};
    p->kn->look_products(&look, sums);
  }
  sums[1] += (double)beyond;
}

static void weight_piece(void *ctx, int64_t index, int worker) {
  const look *l = ctx;
  const fc_conv_plan *p = l->call->p;
  const int64_t part = index % FC_RANGE_PARTS, own = index / FC_RANGE_PARTS,
                rows[3] = {tap_rows(p, 0), tap_rows(p, 1), tap_rows(p, 2)};
  const int64_t g = own / fc_product3(rows), tap[3] = {own / rows[2] / rows[1] % rows[0], own / rows[2] % rows[1], own % rows[2]};
  double *sums = l->parts + index * part_size(p);
  memset(sums, 0, (size_t)part_size(p) * sizeof *sums);
  for (int64_t i = part * l->rows / FC_RANGE_PARTS; i < (part + 1) * l->rows / FC_RANGE_PARTS; i++)
    weight_row(l, i, g, tap, l->buffers + worker * l->buffer, sums);
}

/* Do the sums of each tap hold enough of what its tiles are made of? */
static int weight_fine(const look *l, int64_t own) {
  const fc_conv_plan *p = l->call->p;
  const int64_t rows[3] = {tap_rows(p, 0), tap_rows(p, 1), tap_rows(p, 2)}, size = part_size(p);
  double *sums = l->parts + own * FC_RANGE_PARTS * size;
  for (int64_t part = 1; part < FC_RANGE_PARTS; part++)
    for (int64_t i = 0; i < size; i++) sums[i] += sums[part * size + i];
  if (sums[1] > 0) return 0;
  for (int64_t t = 0; t < size - 2; t++) {
    const int64_t tap[3] = {t / p->d.ker[2] / p->d.ker[1], t / p->d.ker[2] % p->d.ker[1], t % p->d.ker[2]};
    const int64_t row = (tap[0] % rows[0] * rows[1] + tap[1] % rows[1]) * rows[2] + tap[2] % rows[2];
    if (row == own % fc_product3(rows) && !(sums[0] <= p->range.ratio * sums[2 + t])) return 0;
  }
  return 1;
}

/* The sums and the largest of some channels of an operand, over all images. */
typedef struct spread_job {
  const fc_conv_plan *p;
  const char *from;
  char *sums, *largest;
  const int64_t *size, *strides;
  int64_t channels;
} spread_job;

static void spread_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const spread_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const int64_t *s = j->strides, *size = j->size, es = p->es, c = index * FC_RANGE_CHANNELS;
  const int rows = s[3] == size[2] * s[4];
  fc_norms t = {.pixel = s[4],
                .channel = s[1],
                .count = rows ? size[1] * size[2] : size[2],
                .channels = fc_min(FC_RANGE_CHANNELS, j->channels - c)};
  memset(j->sums + c * es, 0, (size_t)(t.channels * es));
  memset(j->largest + c * es, 0, (size_t)(t.channels * es));
  for (int64_t n = 0; n < p->d.n; n++)
    for (int64_t d = 0; d < size[0]; d++)
      for (int64_t h = 0; h < (rows ? 1 : size[1]); h++) {
        t.src = j->from + (n * s[0] + c * s[1] + d * s[2] + h * s[3]) * es;
        p->kn->norms_spread(&t, j->sums + c * es, j->largest + c * es);
      }
}

/* A channel's gradients are its own: does any hold one value that is far beyond its others, and those of other channels? */
static int spread_fine(const spread_job *j) {
  const int64_t es = j->p->es;
  double others = 0;
  for (int64_t c = 0; c < j->channels; c++) others += number(j->sums, c, es) - number(j->largest, c, es);
  others /= (double)(j->channels * j->p->d.n * fc_product3(j->size));
  for (int64_t c = 0; c < j->channels; c++) {
    const double sum = number(j->sums, c, es), most = number(j->largest, c, es);
    if (most > 36 * (sum - most) && most > 1000 * others) return 0;
  }
  return 1;
}

static int spread(look *l, const char *from, const int64_t *size, const int64_t *strides, int64_t channels, int workers,
                  int *fine) {
  const fc_conv_plan *p = l->call->p;
  const spread_job j = {p, from, l->spread, l->spread + channels * p->es, size, strides, channels};
  const int status = fc_parallel_for(workers, fc_div_up(channels, FC_RANGE_CHANNELS), spread_piece, (void *)&j);
  if (!status && *fine) *fine = spread_fine(&j);
  return status;
}

/* Does any pixel hold far more than the average one, or no number? */
static int peaks(const fc_conv_plan *p, const char *sums, const int64_t size[3]) {
  const int64_t all = images(p) * fc_product3(size);
  double most = 0, sum = 0;
  for (int64_t i = 0; i < all; i++) {
    const double v = number(sums, i, p->es);
    sum += v;
    most = v > most ? v : most;
  }
  return !(most * (double)all <= FC_RANGE_PEAK * sum);
}

static int weight_run(look *l, int nthreads) {
  fc_conv_call *j = (fc_conv_call *)l->call;
  const fc_conv_plan *p = j->p;
  const int64_t elements = images(p) * (fc_product3(p->src_size) * p->d.icg + fc_product3(p->dst_size) * p->d.ocg),
                own = tap_parts(p);
  const int workers = elements < FC_RANGE_SERIAL ? 1 : nthreads;
  int status = norms(p, j->first, p->src_size, p->d.x_stride, p->d.icg, l->x, workers), fine = 1;
  if (!status) status = norms(p, j->second, p->dst_size, p->d.y_stride, p->d.ocg, l->y, workers);
  if (!status && peaks(p, l->x, p->src_size))
    status = spread(l, j->first, p->src_size, p->d.x_stride, p->d.groups * p->d.icg, workers, &fine);
  if (!status && peaks(p, l->y, p->dst_size))
    status = spread(l, j->second, p->dst_size, p->d.y_stride, p->d.groups * p->d.ocg, workers, &fine);
  if (!status && fine) status = fc_parallel_for(workers, own * FC_RANGE_PARTS, weight_piece, l);
  if (status) return status;
  for (int64_t i = 0; i < own && fine; i++) fine = weight_fine(l, i);
  if (!fine) j->p = p->direct;
  return fc_conv_own_run(j, 0, nthreads);
}

/* ---- results ---- */

/* The flagged pixels of each phase. */
static void list_pixels(const look *l, fc_conv_call *j) {
  const fc_conv_plan *p = j->p;
  int32_t *to = l->list;
  for (int f = 0; f < p->nphase; f++) {
    const fc_axis *ax = p->phases[f].ax;
    j->listed[f] = to;
    int32_t number = 0;
    for (int64_t n = 0; n < p->d.n; n++)
      for (int64_t d = 0; d < ax[0].count; d++)
        for (int64_t h = 0; h < ax[1].count; h++) {
          const int64_t row = (n * p->dst_size[0] + ax[0].dst_base + d * ax[0].dst_step) * p->dst_size[1] + ax[1].dst_base +
                              h * ax[1].dst_step;
          const unsigned char *flag = l->flags + row * p->dst_size[2] + ax[2].dst_base;
          for (int64_t w = 0; w < ax[2].count; w++, number++)
            if (flag[w * ax[2].dst_step]) *to++ = number;
        }
  }
  j->listed[p->nphase] = to;
}

int fc_range_run(fc_conv_call *j, const void *packed, int nthreads) {
  const fc_conv_plan *p = j->p;
  look l = {.call = j};
  j->workspace += fc_round_up(lay_out(p, nthreads, &l, j->workspace), FC_ALIGN);
  if (p->d.direction == FC_BWD_WEIGHT) return weight_run(&l, nthreads);
  const int64_t elements = images(p) * fc_product3(p->src_size) * p->src_channels, all = results(p);
  const int workers = elements < FC_RANGE_SERIAL ? 1 : nthreads;
  int64_t count = 0;
  int status = norms(p, j->first, p->src_size, p->src_stride, p->src_channels, l.x, workers);
  if (status) return status;
  memset(l.flags, 0, (size_t)all);
  status = fc_parallel_for(workers, l.rows, look_piece, &l);
  if (status) return status;
  for (int64_t i = 0; i < l.rows; i++) count += l.counts[i];
  fc_conv_call direct = *j;
  direct.p = p->direct;
  if (count * FC_RANGE_MOST <= all) {
    status = fc_conv_own_run(j, packed, nthreads);
    if (status) return status;
    const int fine = filters_fine(p, j->filters);
    if (fine && !count) return FC_OK;
    if (fine) list_pixels(&l, &direct);
  }
  return fc_conv_own_run(&direct, packed ? (const char *)packed + fc_conv_own_packed_bytes(p) : 0, nthreads);
}
