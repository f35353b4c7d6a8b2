/* Depthwise layers where the pixels of a row are contiguous: vectors run along the rows. A block of lines of a plane reads padded
 * copies of its rows, which stay in L1. In a strided layer each row is copied phase by phase, so that what a tap reads of it is
 * contiguous, too. */
#include "conv/depthwise.h"

/* What the copies that a block of lines reads may take of L1; results of the planes of a piece, at least. */
#define FC_WIDE_COPIES (16 * 1024)
#define FC_WIDE_RESULTS 2048

/* The first row and column that taps reach; columns of a phase of a copied row; lines of a block, and the rows that they read. */
typedef struct wide_fields {
  int64_t top, left, phase, lines, rows;
} wide_fields;

static wide_fields *own(const fc_conv_plan *p) { return p->state; }

static int64_t step(const fc_conv_plan *p, int i) { return p->phases[0].ax[i].src_step; }

static int64_t rows_of(const fc_conv_plan *p, int64_t lines) {
  return (lines - 1) * step(p, 1) + (p->d.ker[1] - 1) * p->d.dil[1] + 1;
}

static int64_t row_elements(const fc_conv_plan *p) { return step(p, 2) * own(p)->phase; }

static void prepare(fc_conv_plan *p) {
  const int64_t wide = fc_max(p->dst_size[2], p->kn->vl), high = fc_round_up(p->dst_size[1], FC_DEPTH_LINES);
  wide_fields *f = own(p);
  int64_t low[3], span[3], most[3];
  fc_reach(p, low, span, most);
  f->top = low[1];
  f->left = low[2];
  f->phase = fc_round_up(wide + (p->d.ker[2] - 1) * p->d.dil[2] / step(p, 2) + 1, FC_ALIGN / p->es);
  f->lines = high;
  while (f->lines > FC_DEPTH_LINES && rows_of(p, f->lines) * row_elements(p) * p->es > FC_WIDE_COPIES) f->lines -= FC_DEPTH_LINES;
  /* Blocks of much the same size. */
  f->lines = fc_round_up(fc_div_up(high, fc_div_up(high, f->lines)), FC_DEPTH_LINES);
  f->rows = rows_of(p, fc_min(f->lines, p->dst_size[1]));
}

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

/* ---- a piece is a block of lines of some planes ---- */

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t planes = p->d.n * p->d.groups, results = own(p)->lines * p->dst_size[2];
  j->pieces_m = fc_div_up(p->dst_size[1], own(p)->lines);
  j->piece_n = fc_max(1, fc_min(planes / (8 * nthreads), FC_WIDE_RESULTS / results));
  j->pieces_n = fc_div_up(planes, j->piece_n);
  j->scratch = fc_round_up(own(p)->rows * row_elements(p) * p->es, FC_ALIGN) +
               fc_round_up(p->d.ker[2] * (int64_t)sizeof(int64_t), FC_ALIGN);
  return j->pieces_m * j->pieces_n;
}

/* Rows of a plane, from row top on, as copies. */
static void copy_rows(const fc_conv_plan *p, const char *src, int64_t top, int64_t rows, char *to) {
  const int64_t es = p->es, phase = own(p)->phase, s = step(p, 2), row = row_elements(p) * es;
  for (int64_t y = top; y < top + rows; y++, to += row) {
    if ((uint64_t)y >= (uint64_t)p->src_size[1]) {
      memset(to, 0, (size_t)row);
      continue;
    }
    for (int64_t f = 0; f < s; f++) {
      const int64_t first = own(p)->left + f;
      const int64_t lo = fc_min(phase, first < 0 ? fc_div_up(-first, s) : 0);
      const int64_t hi = fc_max(lo, fc_min(phase, fc_div_up(fc_max(0, p->src_size[2] - first), s)));
      char *at = to + f * phase * es;
      memset(at, 0, (size_t)(lo * es));
      if (hi > lo) p->kn->take_every(at + lo * es, src + (y * p->src_stride[3] + first + lo * s) * es, s, hi - lo);
      memset(at + hi * es, 0, (size_t)((phase - hi) * es));
    }
  }
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const int64_t es = p->es, *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.add_stride, *ker = p->d.ker;
  const int64_t h0 = index % j->pieces_m * own(p)->lines, h1 = fc_min(p->dst_size[1], h0 + own(p)->lines);
  const int64_t n0 = index / j->pieces_m * j->piece_n, n1 = fc_min(p->d.n * p->d.groups, n0 + j->piece_n);
  const int64_t top = h0 * step(p, 1) + own(p)->top, rows = rows_of(p, h1 - h0);
  int64_t *at = (int64_t *)(j->workspace + worker * j->scratch);
  char *copies = (char *)at + fc_round_up(ker[2] * (int64_t)sizeof *at, FC_ALIGN);
  for (int64_t x = 0; x < ker[2]; x++) {
    const int64_t column = x * p->d.dil[2];
    at[x] = column % step(p, 2) * own(p)->phase + column / step(p, 2);
  }
  fc_depth_wide t = {.src = copies,
                     .src_row = row_elements(p),
                     .at = at,
                     .height = ker[1],
                     .taps = ker[2],
                     .step = step(p, 1),
                     .spacing = p->d.dil[1],
                     .lines = h1 - h0,
                     .count = p->dst_size[2],
                     .out_line = ds[3],
                     .add_line = as[3],
                     .act = &p->d.act};
  for (int64_t n = n0; n < n1; n++) {
    const int64_t b = n / p->d.groups, c = n % p->d.groups;
    copy_rows(p, j->first + (b * ss[0] + c * ss[1]) * es, top, rows, copies);
    t.wei = j->packed + c * ker[1] * ker[2] * es;
    t.bias = j->bias ? j->bias + c * es : 0;
    t.add = j->add ? j->add + (b * as[0] + c * as[1] + h0 * as[3]) * es : 0;
    t.out = j->result + (b * ds[0] + c * ds[1] + h0 * ds[3]) * es;
    p->kn->depth_wide(&t);
  }
}

static const char *refuse(const fc_conv_plan *p) {
  if (p->src_stride[4] != 1) return "the pixels are not contiguous";
  if (p->d.direction == FC_BWD_INPUT && fc_product3(p->d.stride) > 1) return "it has a stride";
  return fc_depth_refuse_strips(p);
}

static const char *slow(const fc_conv_plan *p) {
  return p->dst_size[2] < FC_CHOOSE_DEPTH_ROWS_COLUMNS ? "the rows are short" : 0;
}

const fc_algorithm fc_conv_depthwise_rows = {
    .name = "depthwise_rows",
    .state = sizeof(wide_fields),
    .directions = FC_OF_IMAGES,
    .refuse = refuse,
    .strides = FC_RESULT_PIXELS,
    .prepare = prepare,
    .packed = packed,
    .pack = pack,
    .pieces = pieces,
    .run = piece,
    .slow = slow,
};
