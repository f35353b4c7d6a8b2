/* Gradients of depthwise filters: a piece is a range of channels of some images, and goes through all their pixels in their
 * order. */
#include "conv/depthwise.h"

/* What the sums of filters may take of L1. */
#define FC_DEPTH_SUMS (16 * 1024)

/* Sums over at least so many pixels are made before they are added to those of the others, for the sake of rounding. */
enum { SUM_PIXELS = 512 };

/* Images are summed in so many parts, at most, of enough pixels each, however many threads there are, and the parts in their
 * order. */
enum { IMAGE_PARTS = 16 };

static int64_t image_parts(const fc_conv_plan *p) {
  const int64_t most = fc_min(p->d.n, fc_min(IMAGE_PARTS, p->d.n * fc_product3(p->d.y_size) / SUM_PIXELS));
  int64_t parts = 1;
  while (2 * parts <= most) parts *= 2;
  return parts;
}

static int64_t sums_bytes(const fc_conv_plan *p, int64_t channels) {
  return fc_round_up(fc_depth_blocks(p, channels + p->kn->vl) * fc_depth_block_elements(p) * p->es, FC_ALIGN);
}

/* The last piece has what is left too: no piece is narrower than a vector, which would sum in another order. */
static int64_t weight_pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t line = FC_ALIGN / p->es, sums = FC_DEPTH_SUMS / (fc_product3(p->d.ker) * p->es) / line * line;
  const int64_t most = fc_depth_own(p)->pixel ? fc_min(fc_depth_own(p)->pixel, sums) : sums;
  /* Threads share the images rather than the channels, of which memory delivers all. */
  const int64_t shares = image_parts(p) < nthreads ? nthreads : 1;
  j->piece_m = fc_min(fc_max(2 * line, most), fc_max(line, p->d.groups / shares / line * line));
  j->pieces_m = fc_max(1, p->d.groups / j->piece_m);
  j->pieces_n = image_parts(p);
  const int64_t channels = p->d.groups - (j->pieces_m - 1) * j->piece_m;
  const int64_t lines = fc_depth_lines_at_once(p);
  j->scratch = fc_depth_block_bytes(p, lines, fc_depth_own(p)->pixel ? channels : p->src_stride[4], channels) +
               2 * sums_bytes(p, channels) + fc_round_up(fc_depth_copy_bytes(p, lines, channels), FC_ALIGN);
  j->shared = j->pieces_m * j->pieces_n * sums_bytes(p, channels);
  return j->pieces_m * j->pieces_n;
}

static void add_sums(int64_t es, void *total, void *sums, int64_t bytes) {
  if (es == 4)
    for (int64_t i = 0; i < bytes / 4; i++) ((float *)total)[i] += ((float *)sums)[i];
  else
    for (int64_t i = 0; i < bytes / 8; i++) ((double *)total)[i] += ((double *)sums)[i];
  memset(sums, 0, (size_t)bytes);
}

/* A gradient's sums, a block of channels after another: those on their own, and those of all. */
typedef struct sums {
  char *now, *all;
  int64_t bytes, pixels;
} sums;

static sums place_sums(const fc_conv_plan *p, char *memory, int64_t channels) {
  const int64_t bytes = sums_bytes(p, channels);
  memset(memory, 0, (size_t)(2 * bytes));
  return (sums){memory, memory + bytes, bytes, 0};
}

static void count_pixels(const fc_conv_plan *p, sums *s, int64_t pixels) {
  s->pixels += pixels;
  if (s->pixels < SUM_PIXELS) return;
  add_sums(p->es, s->all, s->now, s->bytes);
  s->pixels = 0;
}

/* Writes the filters of so many channels from c on, of a block of sums. */
static void put_sums(const fc_conv_call *j, const char *from, int64_t c, int64_t channels) {
  const fc_conv_desc *d = &j->p->d;
  const int64_t es = j->p->es, vl = j->p->kn->vl, taps = fc_product3(d->ker);
  char *to = j->result + c * d->w_stride[0] * es;
  for (int64_t l = 0; l < channels; l++)
    for (int64_t tap = 0; tap < taps; tap++)
      fc_copy_element(es, to + (l * d->w_stride[0] + fc_tap_stride(d, tap)) * es, from + (tap * vl + l) * es);
}

/* Channels of a range, the last of which has what is left too. */
static int64_t channels_of(const fc_conv_call *j, int64_t range) {
  return range == j->pieces_m - 1 ? j->p->d.groups - range * j->piece_m : j->piece_m;
}

/* Where the sums of a range's channels over a part of the images are kept. */
static char *kept_sums(const fc_conv_call *j, int64_t range, int64_t part) {
  return j->workspace + (range * j->pieces_n + part) * sums_bytes(j->p, channels_of(j, j->pieces_m - 1));
}

static void weight_piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, range = index % j->pieces_m, part = index / j->pieces_m, c = range * j->piece_m;
  const int64_t channels = channels_of(j, range), lines = fc_depth_lines_at_once(p);
  char *memory = j->workspace + j->shared + worker * j->scratch;
  sums s = place_sums(p, memory, channels);
  char *copy = memory + 2 * s.bytes;
  const int64_t shift = fc_depth_shift(p, channels, j->first + c * es);
  fc_depth t = fc_depth_block_scratch(p, copy + fc_depth_copy_bytes(p, lines, channels), lines,
                                      fc_depth_own(p)->pixel ? channels : d->x_stride[4], channels, shift);
  t.sums = s.now;
  t.out_step = d->y_stride[4];
  t.out_line = d->y_stride[3];
  for (int64_t b = d->n * part / j->pieces_n; b < d->n * (part + 1) / j->pieces_n; b++)
    for (int64_t z = 0; z < d->y_size[0]; z++)
      for (int64_t h = 0; h < d->y_size[1]; h += lines) {
        const int64_t h1 = fc_min(d->y_size[1], h + lines);
        const fc_depth_source src = fc_depth_take_rows(p, j->first + (b * d->x_stride[0] + c) * es, channels, z, h, h1, copy);
        fc_depth_place_block(&t, p, &p->phases[0], &src, s.now, z, h, h1);
        t.out = (char *)j->second + (b * d->y_stride[0] + c + z * d->y_stride[2] + h * d->y_stride[3]) * es;
        p->kn->depth_weight(&t);
        count_pixels(p, &s, (h1 - h) * d->y_size[2]);
      }
  add_sums(es, s.all, s.now, s.bytes);
  memcpy(kept_sums(j, range, part), s.all, (size_t)s.bytes);
}

/* The pieces, then the parts of each range together. */
static int sum_weights(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t vl = p->kn->vl, es = p->es;
  const int status = fc_parallel_for(nthreads, weight_pieces(j, nthreads), weight_piece, j);
  if (status) return status;
  for (int64_t range = 0; range < j->pieces_m; range++) {
    const int64_t channels = channels_of(j, range), bytes = sums_bytes(p, channels);
    char *all = kept_sums(j, range, 0);
    for (int64_t part = 1; part < j->pieces_n; part++) fc_add(all, kept_sums(j, range, part), bytes / es, es);
    const int64_t c = range * j->piece_m, shift = fc_depth_shift(p, channels, j->first + c * es);
    for (int64_t i = 0; i < fc_depth_blocks(p, channels + shift); i++)
      put_sums(j, all + i * fc_depth_block_elements(p) * es, c + fc_depth_lane(p, channels, shift, i), fc_min(vl, channels));
  }
  return FC_OK;
}

/* By strips, a piece is a vector of channels. */
static int64_t strip_weight_pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t vl = p->kn->vl;
  (void)nthreads;
  j->pieces_m = fc_depth_strip_blocks(p, &j->piece_m);
  j->scratch = fc_depth_strip_bytes(p, fc_depth_source_rows(p, j->piece_m), p->src_size[2]) +
               fc_depth_strip_bytes(p, j->piece_m, p->dst_size[2]) + 2 * sums_bytes(p, vl) +
               fc_depth_block_bytes(p, j->piece_m, vl, vl);
  return fc_depth_blocks(p, p->d.groups);
}

static void strip_weight_piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, vl = p->kn->vl, c = fc_depth_block_channel(p, index), step = d->stride[1];
  char *strip = j->workspace + worker * j->scratch;
  char *dy = strip + fc_depth_strip_bytes(p, fc_depth_source_rows(p, j->piece_m), p->src_size[2]);
  sums s = place_sums(p, dy + fc_depth_strip_bytes(p, j->piece_m, p->dst_size[2]), vl);
  fc_depth t = fc_depth_block_scratch(p, s.now + 2 * s.bytes, j->piece_m, vl, vl, 0);
  t.sums = s.now;
  t.out = dy;
  t.out_step = vl;
  t.out_line = d->y_size[2] * vl;
  for (int64_t b = 0; b < d->n; b++)
    for (int64_t m = 0; m < j->pieces_m; m++) {
      const int64_t h0 = d->y_size[1] * m / j->pieces_m, h1 = d->y_size[1] * (m + 1) / j->pieces_m;
      const int64_t top = h0 * step + fc_depth_own(p)->low[1], rows = fc_depth_source_rows(p, h1 - h0);
      const fc_depth_source src = {strip, 0, top, top + rows, 0, d->x_size[2] * vl, 0, d->x_size[2]};
      fc_depth_fill_strip(p, strip, j->first + (b * d->x_stride[0] + c * d->x_stride[1]) * es, d->x_stride, d->x_size[1],
                          d->x_size[2], top, rows);
      fc_depth_fill_strip(p, dy, j->second + (b * d->y_stride[0] + c * d->y_stride[1]) * es, d->y_stride, d->y_size[1],
                          d->y_size[2], h0, h1 - h0);
      fc_depth_place_block(&t, p, &p->phases[0], &src, s.now, 0, h0, h1);
      p->kn->depth_weight(&t);
      count_pixels(p, &s, (h1 - h0) * d->y_size[2]);
    }
  add_sums(es, s.all, s.now, s.bytes);
  put_sums(j, s.all + (index * vl - c) * es, index * vl, fc_min(vl, d->groups - index * vl));
}

const fc_algorithm fc_conv_weight_depthwise = {
    .name = "depthwise_channels",
    .state = sizeof(fc_depth_fields),
    .directions = FC_OF_WEIGHTS,
    .refuse = fc_depth_refuse,
    .strides = FC_SOURCE_CHANNELS | FC_RESULT_CHANNELS | FC_SOURCE_AHEAD,
    .prepare = fc_depth_prepare,
    .pieces = weight_pieces,
    .run = weight_piece,
    .execute = sum_weights,
};
const fc_algorithm fc_conv_weight_depthwise_strips = {
    .name = "depthwise_strips",
    .state = sizeof(fc_depth_fields),
    .directions = FC_OF_WEIGHTS,
    .refuse = fc_depth_refuse_strips,
    .strides = FC_RESULT_PIXELS,
    .prepare = fc_depth_prepare_strips,
    .pieces = strip_weight_pieces,
    .run = strip_weight_piece,
    .slow = fc_depth_slow_strips,
};
