/* Depthwise layers where the pixels of a row are contiguous: vectors run along the rows. */
#include "conv/depthwise.h"

/* Results of a piece, at least, where there are so many. */
#define FC_WIDE_RESULTS 4096

/* ---- weights: of each channel the taps, by ascending offsets ---- */

static int64_t packed(const fc_conv_plan *p) { return p->d.groups * fc_product3(p->d.ker); }

static int pack(const fc_conv_plan *p, const void *w, void *to, int nthreads) {
  const fc_conv_desc *d = &p->d;
  const int64_t taps = fc_product3(d->ker);
  (void)nthreads;
  const int rows = d->direction == FC_FWD && d->w_stride[4] == 1 && d->w_stride[3] == d->ker[2];
  for (int64_t g = 0; g < d->groups; g++) {
    if (rows) memcpy((char *)to + g * taps * p->es, (const char *)w + g * d->w_stride[0] * p->es, (size_t)(taps * p->es));
    for (int64_t t = 0; t < taps && !rows; t++) {
      const int64_t tap = d->direction == FC_BWD_INPUT ? taps - 1 - t : t, from = g * d->w_stride[0] + fc_tap_stride(d, tap);
      fc_copy_element(p->es, (char *)to + (g * taps + t) * p->es, (const char *)w + from * p->es);
    }
  }
  return FC_OK;
}

/* ---- a piece is some planes, or lines of one ---- */

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t planes = p->d.n * p->d.groups, results = fc_product3(p->dst_size), few = nthreads > 1 ? 4 * nthreads : 1;
  j->piece_n = fc_max(1, fc_min(planes / few, FC_WIDE_RESULTS / results));
  j->pieces_n = fc_div_up(planes, j->piece_n);
  j->piece_m = fc_round_up(fc_div_up(p->dst_size[1], fc_div_up(few, j->pieces_n)), FC_DEPTH_LINES);
  j->pieces_m = fc_div_up(p->dst_size[1], j->piece_m);
  j->scratch = fc_round_up(p->src_size[2] * p->es, FC_ALIGN);
  return j->pieces_m * j->pieces_n;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_axis *ax = p->phases[0].ax;
  const int64_t es = p->es, *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.add_stride, *ker = p->d.ker;
  const int64_t h0 = index % j->pieces_m * j->piece_m, h1 = fc_min(p->dst_size[1], h0 + j->piece_m);
  const int64_t n0 = index / j->pieces_m * j->piece_n, n1 = fc_min(p->d.n * p->d.groups, n0 + j->piece_n);
  char *zeros = j->workspace + worker * j->scratch;
  memset(zeros, 0, (size_t)j->scratch);
  fc_depth_wide t = {.zeros = zeros,
                     .src_row = ss[3],
                     .high = p->src_size[1],
                     .wide = p->src_size[2],
                     .top = h0 * ax[1].src_step + fc_min(ax[1].off[0], ax[1].off[ax[1].ntap - 1]),
                     .left = fc_min(ax[2].off[0], ax[2].off[ax[2].ntap - 1]),
                     .height = ker[1],
                     .taps = ker[2],
                     .step = ax[1].src_step,
                     .across = ax[2].src_step,
                     .spacing = {p->d.dil[1], p->d.dil[2]},
                     .lines = h1 - h0,
                     .count = p->dst_size[2],
                     .out_line = ds[3],
                     .add_line = as[3],
                     .act = &p->d.act};
  for (int64_t n = n0; n < n1; n++) {
    const int64_t b = n / p->d.groups, c = n % p->d.groups;
    t.src = j->first + (b * ss[0] + c * ss[1]) * es;
    t.wei = j->packed + c * ker[1] * ker[2] * es;
    t.bias = j->bias ? j->bias + c * es : 0;
    t.add = j->add ? j->add + (b * as[0] + c * as[1] + h0 * as[3]) * es : 0;
    t.out = j->result + (b * ds[0] + c * ds[1] + h0 * ds[3]) * es;
    p->kn->depth_wide(&t);
  }
}

static const char *refuse(const fc_conv_plan *p) {
  if (p->src_stride[4] != 1) return "the pixels are not contiguous";
  if (p->d.direction == FC_BWD_INPUT ? fc_product3(p->d.stride) > 1 : p->d.stride[2] > 2) return "its steps are too long";
  if (p->d.pad[0]) return "a slice of the result lies in the padding";
  return fc_depth_refuse_strips(p);
}

static const char *slow(const fc_conv_plan *p) {
  return p->dst_size[2] < FC_CHOOSE_DEPTH_ROWS_COLUMNS ? "the rows are short" : 0;
}

const fc_algorithm fc_conv_depthwise_rows = {
    .name = "depthwise_rows",
    .directions = FC_OF_IMAGES,
    .refuse = refuse,
    .strides = FC_RESULT_PIXELS,
    .packed = packed,
    .pack = pack,
    .pieces = pieces,
    .run = piece,
    .slow = slow,
};
