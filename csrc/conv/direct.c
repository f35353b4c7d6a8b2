/* Planes: for layers with few source or few result channels, which would not fill register tiles or not pay for packing.
 * Sources are copied into padded rows, split by the stride, so that the kernels have no edges. */
#include "conv/conv.h"

/* What a plan of these algorithms knows: how far taps reach, rows and slices of the result in a piece, the row of the padded
 * source that it copies, columns of one of the result with what fills its last vector, and pieces along d and h. */
typedef struct fields {
  int64_t low[3], span[3], rows, slices, pitch, columns, chunks_d, chunks_h;
} fields;

static fields *own(const fc_conv_plan *p) { return p->state; }

/* Source planes of one piece stay within this. */
#define FC_PLANE_BYTES (192 * 1024)

/* The padded copy of a source plane: the pitch of its phase-split rows, and how many of them a piece has. */
static void size_planes(fc_conv_plan *p, int64_t channels) {
  int64_t most[3], step[3];
  fc_reach(p, own(p)->low, own(p)->span, most);
  for (int i = 0; i < 3; i++) step[i] = p->phases[0].ax[i].src_step;
  own(p)->columns = fc_round_up(most[2], p->kn->vl);
  const int64_t per_phase = own(p)->columns + fc_div_up(own(p)->span[2], step[2]) + p->kn->vl;
  own(p)->pitch = step[2] * per_phase;
  own(p)->slices = most[0];
  own(p)->rows = most[1];
  /* Fewer rows a piece until its planes fit. */
  for (;;) {
    const int64_t bytes = channels * ((own(p)->slices - 1) * step[0] + own(p)->span[0]) *
                          ((own(p)->rows - 1) * step[1] + own(p)->span[1]) * own(p)->pitch * p->es;
    if (bytes <= FC_PLANE_BYTES) break;
    if (own(p)->slices > 1)
      own(p)->slices = fc_div_up(own(p)->slices, 2);
    else if (own(p)->rows > 1)
      own(p)->rows = fc_div_up(own(p)->rows, 2);
    else
      break;
  }
  own(p)->chunks_d = fc_div_up(most[0], own(p)->slices);
  own(p)->chunks_h = fc_div_up(most[1], own(p)->rows);
}

typedef struct direct_sizes {
  int64_t depth, height;      /* of the padded source */
  int64_t ntap;               /* of all source channels */
  int64_t plane, planes, out, taps, bias, total;
} direct_sizes;

static direct_sizes direct_scratch(const fc_conv_plan *p, int64_t channels) {
  const fc_axis *ax = p->phases[0].ax;
  direct_sizes s;
  s.depth = (own(p)->slices - 1) * ax[0].src_step + own(p)->span[0];
  s.height = (own(p)->rows - 1) * ax[1].src_step + own(p)->span[1];
  s.plane = s.depth * s.height * own(p)->pitch;
  s.planes = fc_round_up(channels * s.plane * p->es + FC_ALIGN, FC_ALIGN);
  s.ntap = channels * fc_product3(p->d.ker);
  s.out = fc_round_up(FC_PLANES * own(p)->slices * own(p)->rows * own(p)->columns * p->es, FC_ALIGN);
  s.taps = fc_round_up(s.ntap * (FC_PLANES * p->es + 2 * (int64_t)sizeof(int64_t)), FC_ALIGN);
  s.bias = fc_round_up(own(p)->rows * p->es, FC_ALIGN);
  s.total = s.planes + s.out + s.taps + s.bias + FC_ALIGN;
  return s;
}

static void copy_strided(int64_t es, void *dst, const void *src, int64_t ss, int64_t n) {
  if (ss == 1 && n > 1)
    memcpy(dst, src, (size_t)(n * es));
  else if (es == 4)
    for (int64_t i = 0; i < n; i++) ((float *)dst)[i] = ((const float *)src)[i * ss];
  else
    for (int64_t i = 0; i < n; i++) ((double *)dst)[i] = ((const double *)src)[i * ss];
}

/* Copies the source rows that slices d0.. and rows h0.. of the output reach, padded with zeros; columns are split by
 * their remainder by the step, so that the columns of one tap lie next to each other. */
static void copy_planes(const fc_conv_plan *p, const direct_sizes *s, const char *src, int64_t channels, int64_t d0, int64_t h0,
                        char *dst) {
  const fc_axis *ax = p->phases[0].ax;
  const int64_t es = p->es, step = ax[2].src_step, per = own(p)->pitch / step, low = own(p)->low[2];
  memset(dst, 0, (size_t)(channels * s->plane * es));
  const int64_t first = fc_max(0, low), last = fc_min(p->src_size[2], low + per * step);
  for (int64_t c = 0; c < channels; c++)
    for (int64_t d = 0; d < s->depth; d++) {
      const int64_t sd = d0 * ax[0].src_step + own(p)->low[0] + d;
      if (sd < 0 || sd >= p->src_size[0]) continue;
      for (int64_t h = 0; h < s->height; h++) {
        const int64_t sh = h0 * ax[1].src_step + own(p)->low[1] + h;
        if (sh < 0 || sh >= p->src_size[1] || first >= last) continue;
        const char *from = src + (c * p->src_stride[1] + sd * p->src_stride[2] + sh * p->src_stride[3]) * es;
        char *to = dst + (c * s->plane + (d * s->height + h) * own(p)->pitch) * es;
        for (int64_t r = 0; r < step; r++) {
          /* Column low + r + step i of the source goes to part r of the row, place i. */
          const int64_t i = first > low + r ? fc_div_up(first - low - r, step) : 0, w = low + r + step * i;
          if (w < last)
            copy_strided(es, to + (r * per + i) * es, from + w * p->src_stride[4] * es, step * p->src_stride[4],
                         fc_div_up(last - w, step));
        }
      }
    }
}

/* Where the taps of a phase lie in the padded planes of so many channels, and among the weights. Returns how many. */
static int64_t place_taps(const fc_conv_plan *p, const direct_sizes *s, const fc_phase *ph, int64_t channels, int64_t *toff,
                          int64_t *woff) {
  const fc_axis *ax = ph->ax;
  const int64_t *ws = p->d.w_stride, step = ax[2].src_step, per = own(p)->pitch / step;
  int64_t n = 0;
  for (int64_t c = 0; c < channels; c++)
    for (int td = 0; td < ax[0].ntap; td++)
      for (int th = 0; th < ax[1].ntap; th++)
        for (int tw = 0; tw < ax[2].ntap; tw++, n++) {
          const int64_t column = ax[2].off[tw] - own(p)->low[2],
                        row = (ax[0].off[td] - own(p)->low[0]) * s->height + ax[1].off[th] - own(p)->low[1];
          toff[n] = c * s->plane + row * own(p)->pitch + column % step * per + column / step;
          woff[n] = c * p->w_src + ax[0].tap[td] * ws[2] + ax[1].tap[th] * ws[3] + ax[2].tap[tw] * ws[4];
        }
  return n;
}

/* The weights of n taps, one after another. */
static void gather(int64_t es, void *dst, const char *w, const int64_t *woff, int64_t n) {
  if (es == 4)
    for (int64_t i = 0; i < n; i++) ((float *)dst)[i] = ((const float *)w)[woff[i]];
  else
    for (int64_t i = 0; i < n; i++) ((double *)dst)[i] = ((const double *)w)[woff[i]];
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, chunks = own(p)->chunks_d * own(p)->chunks_h,
                out_plane = own(p)->slices * own(p)->rows * own(p)->columns;
  const int64_t b = index / chunks / d->groups, g = index / chunks % d->groups;
  const int64_t d0 = index % chunks / own(p)->chunks_h * own(p)->slices, h0 = index % chunks % own(p)->chunks_h * own(p)->rows;
  const direct_sizes s = direct_scratch(p, p->src_channels);
  char *planes = j->workspace + worker * j->scratch, *out = planes + s.planes;
  int64_t *toff = (int64_t *)(out + s.out), *woff = toff + s.ntap;
  char *wei = (char *)(woff + s.ntap), *bias = out + s.out + s.taps;
  copy_planes(p, &s, j->first + (b * p->src_stride[0] + g * p->src_channels * p->src_stride[1]) * es, p->src_channels, d0, h0,
              planes);
  for (int f = 0; f < p->nphase; f++) {
    const fc_phase *ph = &p->phases[f];
    const fc_axis *ax = ph->ax;
    const int64_t d1 = fc_min(ax[0].count, d0 + own(p)->slices), h1 = fc_min(ax[1].count, h0 + own(p)->rows);
    if (d0 >= d1 || h0 >= h1) continue;
    const int64_t ntap = place_taps(p, &s, ph, p->src_channels, toff, woff);
    for (int64_t m0 = 0; m0 < p->dst_channels; m0 += FC_PLANES) {
      const int64_t m1 = fc_min(p->dst_channels, m0 + FC_PLANES);
      for (int64_t m = m0; m < m1; m++)
        gather(es, wei + (m - m0) * ntap * es, j->second + (g * d->ocg * d->w_stride[0] + m * p->w_dst) * es, woff, ntap);
      for (int64_t z = d0; z < d1; z++) {
        const fc_plane t = {
            .src = planes + (z - d0) * ax[0].src_step * s.height * own(p)->pitch * es,
            .toff = toff,
            .ntap = ntap,
            .wei = wei,
            .rows = h1 - h0,
            .cols = ax[2].count,
            .src_row = ax[1].src_step * own(p)->pitch,
            .out = out + (z - d0) * own(p)->rows * own(p)->columns * es,
            .out_row = own(p)->columns,
            .out_plane = out_plane,
            .planes = (int)(m1 - m0),
        };
        p->kn->plane(&t);
      }
      for (int64_t m = m0; m < m1; m++) {
        const int64_t channel = g * p->dst_channels + m;
        for (int64_t h = 0; j->bias && h < h1 - h0; h++) memcpy(bias + h * es, j->bias + channel * es, (size_t)es);
        const fc_epilogue ep = {1, 1, j->bias ? bias : 0, 0, d->act.kind, d->act.p0, d->act.p1};
        for (int64_t z = d0; z < d1; z++) {
          const int64_t od = ax[0].dst_base + z * ax[0].dst_step, oh = ax[1].dst_base + h0 * ax[1].dst_step, ow = ax[2].dst_base;
          const int64_t *ds = p->dst_stride, *as = d->add_stride;
          const fc_block t = {
              .m = h1 - h0,
              .n = ax[2].count,
              .ep = &ep,
              .first = 1,
              .last = 1,
              .out = {.p = j->result + (b * ds[0] + channel * ds[1] + od * ds[2] + oh * ds[3] + ow * ds[4]) * es,
                      .rs = ax[1].dst_step * ds[3],
                      .cs = ax[2].dst_step * ds[4]},
              .add = {.p = j->add ? (char *)j->add + (b * as[0] + channel * as[1] + od * as[2] + oh * as[3] + ow * as[4]) * es
                                  : 0,
                      .rs = ax[1].dst_step * as[3],
                      .cs = ax[2].dst_step * as[4]},
          };
          p->kn->write(out + ((m - m0) * out_plane + (z - d0) * own(p)->rows * own(p)->columns) * es, own(p)->columns, &t);
        }
      }
    }
  }
}

static int64_t weight_sums(const fc_conv_plan *p) {
  return fc_round_up(p->d.ocg * p->d.icg * fc_product3(p->d.ker) * p->es, FC_ALIGN);
}

/* Columns whose products are added one after another, a whole number of vectors. */
enum { LONG_ROW = 4096 };

/* One group: planes of x are copied as in the direct forward pass, rows of dy filled up with zeros. */
static void weight_piece(void *ctx, int64_t g, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, ntap = fc_product3(d->ker);
  const direct_sizes s = direct_scratch(p, d->icg);
  char *sums = j->workspace + worker * j->scratch, *planes = sums + weight_sums(p), *rows = planes + s.planes;
  int64_t *toff = (int64_t *)(rows + s.out);
  const fc_axis *ax = p->phases[0].ax;
  memset(sums, 0, (size_t)(d->ocg * d->icg * ntap * es));
  place_taps(p, &s, &p->phases[0], 1, toff, toff + s.ntap);
  for (int64_t b = 0; b < d->n; b++)
    for (int64_t d0 = 0; d0 < d->y_size[0]; d0 += own(p)->slices)
      for (int64_t h0 = 0; h0 < d->y_size[1]; h0 += own(p)->rows) {
        const int64_t d1 = fc_min(d->y_size[0], d0 + own(p)->slices), h1 = fc_min(d->y_size[1], h0 + own(p)->rows);
        copy_planes(p, &s, j->first + (b * d->x_stride[0] + g * d->icg * d->x_stride[1]) * es, d->icg, d0, h0, planes);
        for (int64_t m = 0; m < d->ocg; m++)
          for (int64_t z = d0; z < d1; z++) {
            memset(rows, 0, (size_t)(own(p)->rows * own(p)->columns * es));
            for (int64_t h = h0; h < h1; h++) {
              const char *from = j->second + (b * d->y_stride[0] + (g * d->ocg + m) * d->y_stride[1] + z * d->y_stride[2] +
                                              h * d->y_stride[3]) *
                                                 es;
              copy_strided(es, rows + (h - h0) * own(p)->columns * es, from, d->y_stride[4], d->y_size[2]);
            }
            for (int64_t c = 0; c < d->icg; c++) {
              fc_plane t = {
                  .src = planes + (c * s.plane + (z - d0) * ax[0].src_step * s.height * own(p)->pitch) * es,
                  .toff = toff,
                  .ntap = ntap,
                  .wei = sums + (m * d->icg + c) * ntap * es,
                  .rows = h1 - h0,
                  .src_row = ax[1].src_step * own(p)->pitch,
                  .out_row = own(p)->columns,
              };
              /* Of long rows sums of sums, which round less. */
              const char *src = t.src;
              for (int64_t from = 0; from < d->y_size[2]; from += LONG_ROW) {
                t.src = src + from * es;
                t.out = rows + from * es;
                t.cols = fc_min(LONG_ROW, d->y_size[2] - from);
                p->kn->plane_weight(&t);
              }
            }
          }
      }
  for (int64_t m = 0; m < d->ocg; m++)
    for (int64_t c = 0; c < d->icg; c++)
      for (int64_t tap = 0; tap < ntap; tap++)
        copy_strided(es, j->result + ((g * d->ocg + m) * d->w_stride[0] + c * d->w_stride[1] + fc_tap_stride(d, tap)) * es,
                     sums + ((m * d->icg + c) * ntap + tap) * es, 1, 1);
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  (void)nthreads;
  j->scratch = direct_scratch(j->p, j->p->src_channels).total;
  return j->p->d.n * j->p->d.groups * own(j->p)->chunks_d * own(j->p)->chunks_h;
}

static int64_t weight_pieces(fc_conv_call *j, int nthreads) {
  (void)nthreads;
  j->scratch = weight_sums(j->p) + direct_scratch(j->p, j->p->d.icg).total;
  return j->p->d.groups;
}

static void prepare(fc_conv_plan *p) { size_planes(p, p->src_channels); }

/* The smallest piece is a row of results, and what it copies is limited to so many elements and 16 times those of the arrays. */
#define MOST_COPIED (1 << 18)

static const char *refuse(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int back = d->direction == FC_BWD_INPUT;
  double copied = (double)p->src_channels;
  for (int i = 0; i < 3; i++) {
    const int64_t span = (d->ker[i] - 1) * d->dil[i] / (back ? d->stride[i] : 1) + 1;
    const int64_t columns = back ? fc_div_up(d->x_size[i], d->stride[i]) : d->y_size[i] * d->stride[i];
    copied *= (double)(i < 2 ? span : span + columns + 2 * p->kn->vl * (back ? 1 : d->stride[i]));
  }
  const double arrays = (double)d->icg * (double)fc_product3(d->x_size) + (double)d->ocg * (double)fc_product3(d->y_size) +
                        (double)d->icg * (double)d->ocg * (double)fc_product3(d->ker);
  return copied <= MOST_COPIED + 16 * arrays ? 0 : "its taps reach over too much padding";
}

static const char *slow(const fc_conv_plan *p) {
  if (p->d.groups == 1 && fc_product3(p->dst_size) < p->kn->vl) return "a plane of the result does not fill a vector";
  if (p->dst_channels <= FC_CHOOSE_DIRECT_RESULTS && (p->d.groups > 1 || p->dst_channels < p->kn->mr)) return 0;
  if (p->dst_channels <= FC_CHOOSE_DIRECT_RESULTS) return "the result's channels fill register tiles";
  /* A stem: the planes of its source are used for every channel of the result, without packing. */
  if (p->src_channels > FC_CHOOSE_DIRECT_CHANNELS || fc_product3(p->d.ker) < FC_CHOOSE_DIRECT_TAPS)
    return "there are more than a few channels";
  return p->dst_stride[4] == 1 ? 0 : "the channels of the result are contiguous";
}

static const char *slow_weight(const fc_conv_plan *p) {
  const int few = fc_max(p->d.icg, p->d.ocg) <= FC_CHOOSE_DIRECT_CHANNELS;
  return p->d.groups > 1 && few ? 0 : "the channels of a group fill register tiles";
}

const fc_algorithm fc_conv_direct = {
    .name = "direct",
    .state = sizeof(fields),
    .directions = FC_OF_IMAGES,
    .refuse = refuse,
    .prepare = prepare,
    .pieces = pieces,
    .run = piece,
    .slow = slow,
};
const fc_algorithm fc_conv_weight_direct = {
    .name = "direct",
    .state = sizeof(fields),
    .directions = FC_OF_WEIGHTS,
    .refuse = refuse,
    .prepare = prepare,
    .pieces = weight_pieces,
    .run = weight_piece,
    .slow = slow_weight,
};
