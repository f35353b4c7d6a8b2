/* Which gradients of filters may be made by tiles: for each tap, the products of what all tiles hold are not much more than
 * those of what it multiplies, and no channel hides one value far beyond its others. Else all of it is made directly. */
#include "conv/range.h"

/* Channels of a piece, where they are looked at one by one. */
#define FC_RANGE_CHANNELS 64

/* Channels are looked at one by one if a pixel holds so many times what one does on average. */
#define FC_RANGE_PEAK 32

static void weight_row(const fc_range_look *l, int64_t index, int64_t g, const int64_t tap[3], char *whole, double *sums) {
  const fc_conv_plan *p = l->call->p;
  const fc_look_side *side = p->range.side;
  const fc_axis *ax = p->phases[0].ax;
  const int64_t es = p->es, wide = p->src_size[2], out = p->dst_size[2];
  char *gradients = whole + wide * es;
  int64_t first[2], count[2], from[3], many[3], beyond = 0;
  const int64_t image = fc_range_row_at(l, index, first, count) * p->d.groups + g;
  for (int i = 0; i < 3; i++) {
    from[i] = side[i].step > 1 ? 0 : tap[i] * side[i].spread;
    many[i] = side[i].step > 1 ? side[i].side : 1;
  }
  memset(whole, 0, (size_t)((wide + out) * es));
  for (int64_t i = 0; i < many[0] * many[1]; i++) {
    const int64_t d = fc_range_source(p, 0, first[0]) + from[0] + i / many[1] * side[0].spread,
                  h = fc_range_source(p, 1, first[1]) + from[1] + i % many[1] * side[1].spread;
    const char *row = fc_range_row_of(p, l->x, p->src_size, image, d, h);
    if (row) p->kn->norms_add(whole, 0, row, wide);
  }
  for (int64_t i = 0; i < count[0] * count[1]; i++) {
    const int64_t d = first[0] + i / count[1] * l->side[0].apart, h = first[1] + i % count[1] * l->side[1].apart;
    const char *row = fc_range_row_of(p, l->y, p->dst_size, image, d, h);
    p->kn->norms_add(gradients, 0, row, out);
    for (int64_t t = 0, all = fc_range_taps(p, 0) * fc_range_taps(p, 1) * fc_range_taps(p, 2); t < all; t++) {
      const int64_t at[3] = {tap[0] + t / fc_range_taps(p, 2) / fc_range_taps(p, 1),
                             tap[1] + t / fc_range_taps(p, 2) % fc_range_taps(p, 1), tap[2] + t % fc_range_taps(p, 2)};
      const int64_t step = ax[2].src_step, off = ax[2].off[at[2]], x0 = off < 0 ? fc_div_up(-off, step) : 0,
                    x1 = fc_min(out, off < wide ? (wide - 1 - off) / step + 1 : 0);
      const char *read = fc_range_row_of(p, l->x, p->src_size, image, d * ax[0].src_step + ax[0].off[at[0]],
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
                          .first = fc_range_source(p, 2, x) + from[2],
                          .hop = fc_range_source(p, 2, x + side[2].step * apart) - fc_range_source(p, 2, x),
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
  const fc_range_look *l = ctx;
  const fc_conv_plan *p = l->call->p;
  const int64_t part = index % FC_RANGE_PARTS, own = index / FC_RANGE_PARTS,
                rows[3] = {fc_range_tap_rows(p, 0), fc_range_tap_rows(p, 1), fc_range_tap_rows(p, 2)};
  const int64_t g = own / fc_product3(rows), tap[3] = {own / rows[2] / rows[1] % rows[0], own / rows[2] % rows[1], own % rows[2]};
  double *sums = l->parts + index * fc_range_part_size(p);
  memset(sums, 0, (size_t)fc_range_part_size(p) * sizeof *sums);
  for (int64_t i = part * l->rows / FC_RANGE_PARTS; i < (part + 1) * l->rows / FC_RANGE_PARTS; i++)
    weight_row(l, i, g, tap, l->buffers + worker * l->buffer, sums);
}

/* Do the sums of each tap hold enough of what its tiles are made of? */
static int weight_fine(const fc_range_look *l, int64_t own) {
  const fc_conv_plan *p = l->call->p;
  const int64_t rows[3] = {fc_range_tap_rows(p, 0), fc_range_tap_rows(p, 1), fc_range_tap_rows(p, 2)},
                size = fc_range_part_size(p);
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
  for (int64_t c = 0; c < j->channels; c++) others += fc_range_number(j->sums, c, es) - fc_range_number(j->largest, c, es);
  others /= (double)(j->channels * j->p->d.n * fc_product3(j->size));
  for (int64_t c = 0; c < j->channels; c++) {
    const double sum = fc_range_number(j->sums, c, es), most = fc_range_number(j->largest, c, es);
    if (most > 36 * (sum - most) && most > 1000 * others) return 0;
  }
  return 1;
}

static int spread(fc_range_look *l, const char *from, const int64_t *size, const int64_t *strides, int64_t channels, int workers,
                  int *fine) {
  const fc_conv_plan *p = l->call->p;
  const spread_job j = {p, from, l->spread, l->spread + channels * p->es, size, strides, channels};
  const int status = fc_parallel_for(workers, fc_div_up(channels, FC_RANGE_CHANNELS), spread_piece, (void *)&j);
  if (!status && *fine) *fine = spread_fine(&j);
  return status;
}

/* Does any pixel hold far more than the average one, or no number? */
static int peaks(const fc_conv_plan *p, const char *sums, const int64_t size[3]) {
  const int64_t all = fc_range_images(p) * fc_product3(size);
  double most = 0, sum = 0;
  for (int64_t i = 0; i < all; i++) {
    const double v = fc_range_number(sums, i, p->es);
    sum += v;
    most = v > most ? v : most;
  }
  return !(most * (double)all <= FC_RANGE_PEAK * sum);
}

int fc_range_weight_run(fc_range_look *l, int nthreads) {
  fc_conv_call *j = (fc_conv_call *)l->call;
  const fc_conv_plan *p = j->p;
  const int64_t elements = fc_range_images(p) * (fc_product3(p->src_size) * p->d.icg + fc_product3(p->dst_size) * p->d.ocg),
                own = fc_range_tap_parts(p);
  const int workers = elements < FC_RANGE_SERIAL ? 1 : nthreads;
  int status = fc_range_norms(p, j->first, p->src_size, p->d.x_stride, p->d.icg, l->x, workers), fine = 1;
  if (!status) status = fc_range_norms(p, j->second, p->dst_size, p->d.y_stride, p->d.ocg, l->y, workers);
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
