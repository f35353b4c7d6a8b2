/* The reach of algorithms that mix the values of a tile: their error is a part of the largest values that a tile holds, also in
 * results whose windows hold small ones alone. So before a call the sizes of its values are looked at: of each pixel the sum of
 * the magnitudes of its channels, then the sums over tiles and over windows. A result whose window holds too small a part of
 * its tile, or whose tile is too large, too small, infinite or not a number, is computed directly, as all are if there are many.
 * This depends on the values alone, and so do the bits of the result. */
#include "conv/range.h"

/* A window may hold this many times less of its tile than it would if all values were alike. The error of its result is then up
 * to 16 times the common one, which is still within the millionths that are promised of each. */
#define FC_RANGE_RATIO 16

/* If more than one result in this many has to be computed directly, all are. */
#define FC_RANGE_MOST 4

/* Pixels of a piece of work. */
#define FC_RANGE_PIXELS 4096

/* The taps that a result sees hold at least one part in this many of the filters, or Winograd is not trusted with them. */
#define FC_RANGE_TAPS 1024

/* Results at either end of a dimension that are asked which taps they see. */
#define FC_RANGE_ENDS 32

/* Taps of filters that are added up at a time. */
#define FC_RANGE_TOGETHER 16

static int within(double value, int64_t es) {
  return es == 4 ? value >= FC_RANGE_LOW && value <= FC_RANGE_FILTERS : value >= FC_RANGE_LOW64 && value <= FC_RANGE_FILTERS64;
}

/* Does a result read the pixel? */
static int reads(const fc_conv_plan *p, int i, int64_t result, int64_t pixel) {
  const fc_axis *a = &p->phases[0].ax[i];
  if (fc_range_strided_back(p)) return fc_between(result + p->d.pad[i] - 2 * pixel, 0, p->d.ker[i] - 1);
  for (int t = 0; t < a->ntap; t++)
    if (result * a->src_step + a->off[t] == pixel) return 1;
  return 0;
}

/* Does a result see a tap? */
static int sees(const fc_conv_plan *p, int i, int64_t result, int t) {
  const fc_axis *a = &p->phases[0].ax[i];
  int64_t pixel = 0;
  if (fc_range_strided_back(p)) {
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
    for (int t = 0; t < taps; t++) set |= sees(p, i, result, t) << (fc_range_strided_back(p) ? t : p->phases[0].ax[i].tap[t]);
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
        if (tile.step == 1 || reads(p, i, r * p->d.dil[i], fc_range_source(p, i, 0) + k * s->spread)) {
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
    for (int64_t l = 0; l < lanes; l++) sum += fc_range_number((const char *)part + t * lanes * p->es, l, p->es);
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
      for (int64_t t = 0; t < taps; t++) all += fc_range_number(parts + k * part_bytes(p), t, sizeof all);
    if (all == 0) continue;
    if (!within(all, p->es)) return 0;
    for (int s = 0; s < r->sets[0] * r->sets[1] * r->sets[2]; s++) {
      const int set[3] = {s / r->sets[2] / r->sets[1], s / r->sets[2] % r->sets[1], s % r->sets[2]};
      double seen = 0;
      for (int64_t t = 0; t < taps; t++) {
        const int64_t at[3] = {t / ker[2] / ker[1], t / ker[2] % ker[1], t % ker[2]};
        int visible = 1;
        for (int i = 0; i < 3; i++) visible &= r->taps[i][set[i]] >> at[i] & 1;
        for (int64_t k = 0; k < many && visible; k++) seen += fc_range_number(parts + k * part_bytes(p), t, sizeof seen);
      }
      if (!(all <= FC_RANGE_TAPS * seen)) return 0;
    }
  }
  return 1;
}

/* ---- looking ---- */

static int64_t results(const fc_conv_plan *p) { return p->d.n * fc_product3(p->dst_size); }

/* The parts of the scratch; returns how many bytes they are. */
static int64_t lay_out(const fc_conv_plan *p, int nthreads, fc_range_look *l, char *memory) {
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
  FC_PART(x, fc_range_images(p) * fc_product3(p->src_size) * p->es);
  FC_PART(buffers, fc_max(1, nthreads) * l->buffer);
  FC_PART(counts, l->rows * (int64_t)sizeof *l->counts);
  if (weight) {
    FC_PART(y, fc_range_images(p) * fc_product3(p->dst_size) * p->es);
    FC_PART(spread, 2 * p->d.groups * fc_max(p->d.icg, p->d.ocg) * p->es);
    FC_PART(parts, fc_range_tap_parts(p) * FC_RANGE_PARTS * fc_range_part_size(p) * (int64_t)sizeof *l->parts);
  } else {
    FC_PART(flags, results(p));
    FC_PART(list, (results(p) / FC_RANGE_MOST + 1) * (int64_t)sizeof *l->list);
  }
#undef FC_PART
  return at;
}

int64_t fc_range_workspace(const fc_conv_plan *p, int nthreads) {
  fc_range_look l;
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

static int64_t norm_pieces(const norm_job *j) { return fc_range_images(j->p) * j->size[0] * fc_div_up(j->size[1], j->rows); }

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

int fc_range_norms(const fc_conv_plan *p, const char *from, const int64_t size[3], const int64_t strides[5], int64_t channels,
                   char *to, int nthreads) {
  norm_job j = {p, from, to, size, strides, channels, fc_max(1, fc_min(size[1], FC_RANGE_PIXELS / size[2]))};
  return fc_parallel_for(nthreads, norm_pieces(&j), norm_piece, &j);
}

static void look_piece(void *ctx, int64_t index, int worker) {
  const fc_range_look *l = ctx;
  const fc_conv_plan *p = l->call->p;
  const fc_look_side *side = p->range.side;
  const int64_t es = p->es, wide = p->src_size[2], groups = p->d.groups;
  char *whole = l->buffers + worker * l->buffer, *most = whole + wide * es, *windows = most + wide * es;
  int64_t first[2], count[2], flag_at[FC_LOOK_STEP], total = 0;
  const int64_t n = fc_range_row_at(l, index, first, count), d0 = fc_range_source(p, 0, first[0]),
                h0 = fc_range_source(p, 1, first[1]);
  for (int64_t i = 0; i < count[0] * count[1]; i++) {
    const int64_t d = first[0] + i / count[1] * l->side[0].apart, h = first[1] + i % count[1] * l->side[1].apart;
    flag_at[i] = ((n * p->dst_size[0] + d) * p->dst_size[1] + h) * p->dst_size[2];
  }
  for (int64_t g = 0; g < groups; g++) {
    memset(whole, 0, (size_t)((2 + count[0] * count[1]) * wide * es));
    int64_t read = 0;
    for (int64_t i = 0; i < side[0].side; i++)
      for (int64_t k = 0; k < side[1].side; k++) {
        const char *row = fc_range_row_of(p, l->x, p->src_size, n * groups + g, d0 + i * side[0].spread, h0 + k * side[1].spread);
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
                            .first = fc_range_source(p, 2, x),
                            .hop = fc_range_source(p, 2, x + side[2].step * apart) - fc_range_source(p, 2, x),
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

/* ---- results ---- */

/* The flagged pixels of each phase. */
static void list_pixels(const fc_range_look *l, fc_conv_call *j) {
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
  fc_range_look l = {.call = j};
  j->workspace += fc_round_up(lay_out(p, nthreads, &l, j->workspace), FC_ALIGN);
  if (p->d.direction == FC_BWD_WEIGHT) return fc_range_weight_run(&l, nthreads);
  const int64_t elements = fc_range_images(p) * fc_product3(p->src_size) * p->src_channels, all = results(p);
  const int workers = elements < FC_RANGE_SERIAL ? 1 : nthreads;
  int64_t count = 0;
  int status = fc_range_norms(p, j->first, p->src_size, p->src_stride, p->src_channels, l.x, workers);
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
