/* Depthwise layers, forward and backward-input: vectors run over channels, results along lines of pixels. Where channels are not
 * contiguous, they are brought into strips of a vector of them, a block of lines at a time. */
#include "conv/depthwise.h"

/* What the addresses of a block of lines may take of L1. */
#define FC_DEPTH_TABLE (16 * 1024)

/* What the strips of a block of lines may take of L2. */
#define FC_DEPTH_STRIPS (128 * 1024)

/* Vectors of channels, and results of each, from which on it pays to begin all but the first vector at cache lines. */
#define FC_DEPTH_SHIFTED 6
#define FC_DEPTH_SHIFTED_RESULTS 256

/* What a tile reads, of so many channels that it stays in L1 until the next one reads most of it again. */
#define FC_DEPTH_NEAR (16 * 1024)

/* Pixels that lie a multiple of so many bytes apart are copied, so many bytes of each at a time, and so many lines. */
#define FC_DEPTH_APART 2048
#define FC_DEPTH_COPIED 1024
#define FC_DEPTH_COPIED_LINES (2 * FC_DEPTH_LINES)

/* Channels are blocked by vectors. The last block is that of the last channels, whole, and overlaps the one before. */
int64_t fc_depth_blocks(const fc_conv_plan *p, int64_t channels) { return fc_div_up(channels, p->kn->vl); }

int64_t fc_depth_block_elements(const fc_conv_plan *p) { return fc_product3(p->d.ker) * p->kn->vl; }

/* Where all vectors of the source begin so many lanes behind a cache line (or what a vector takes of one), as in NumPy's arrays,
 * which begin 16 bytes behind: that many lanes, by which all blocks but the first then begin earlier. Loads that cross cache
 * lines take twice as long; one block more is gone through, and its weights are taken from those of two. */
int64_t fc_depth_shift(const fc_conv_plan *p, int64_t channels, const char *src) {
  const int64_t bytes = p->kn->vl * p->es, behind = (int64_t)((uintptr_t)src % (uintptr_t)bytes);
  if (p->kn->vl == 1 || channels < FC_DEPTH_SHIFTED * p->kn->vl || behind % p->es || fc_depth_own(p)->pixel) return 0;
  if (p->d.n * fc_product3(p->dst_size) < FC_DEPTH_SHIFTED_RESULTS) return 0;
  for (int i = 0; i < 5; i++)
    if (i != 1 && p->src_stride[i] * p->es % bytes) return 0;
  return behind / p->es;
}

/* The first of a block's channels. */
int64_t fc_depth_lane(const fc_conv_plan *p, int64_t channels, int64_t shift, int64_t block) {
  return fc_max(0, fc_min(block * p->kn->vl - shift, channels - p->kn->vl));
}

/* Whether all taps of a channel lie evenly in the array of weights. */
static int taps_even(const fc_conv_desc *d) {
  for (int64_t t = 1; t < fc_product3(d->ker); t++)
    if (fc_tap_stride(d, t) != t * d->w_stride[4]) return 0;
  return 1;
}

/* ---- weights: for each block of channels, the taps of each phase by ascending offsets, a vector each ---- */

/* Which of an axis' taps is number i by offset: in backward-input their order is the opposite. */
static int nth(const fc_axis *a, int i) { return a->off[a->ntap - 1] < a->off[0] ? a->ntap - 1 - i : i; }

static int64_t phase_taps(const fc_phase *ph) { return (int64_t)ph->ax[0].ntap * ph->ax[1].ntap * ph->ax[2].ntap; }

static int64_t packed_elements(const fc_conv_plan *p) { return fc_depth_blocks(p, p->d.groups) * fc_depth_block_elements(p); }

static void pack_blocks(const fc_conv_plan *p, const void *w, int64_t shift, void *packed) {
  const int64_t *ker = p->d.ker, *ws = p->d.w_stride, es = p->es, taps = fc_product3(ker), channels = p->d.groups;
  const int vl = p->kn->vl, lanes = (int)fc_min(vl, channels), even = taps_even(&p->d);
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < vl; l++) off[l] = l * ws[0];
  for (int64_t i = 0; i < fc_depth_blocks(p, channels + shift); i++) {
    char *to = (char *)packed + i * taps * vl * es;
    const char *from = (const char *)w + fc_depth_lane(p, channels, shift, i) * ws[0] * es;
    for (int f = 0; f < p->nphase; f++) {
      const fc_axis *ax = p->phases[f].ax;
      const int64_t n = phase_taps(&p->phases[f]);
      /* All taps of the kernel in one go: in backward-input from the last to the first, whichever axes they lie along. */
      const int whole = even && n == taps;
      const int64_t run = whole ? taps : ax[2].ntap;
      for (int64_t t = 0; t < n; t += run, to += run * vl * es) {
        const int64_t w0 = ax[2].tap[nth(&ax[2], 0)];
        const int64_t step = whole ? (p->d.direction == FC_BWD_INPUT ? -1 : 1) : run > 1 ? ax[2].tap[nth(&ax[2], 1)] - w0 : 1;
        const int64_t h = ax[1].tap[nth(&ax[1], t / ax[2].ntap % ax[1].ntap)];
        const int64_t d = ax[0].tap[nth(&ax[0], t / ax[2].ntap / ax[1].ntap)];
        p->kn->pack(to, vl, lanes, from + fc_tap_stride(&p->d, (d * ker[1] + h) * ker[2] + w0) * es, off, step * ws[4], run);
      }
    }
  }
}

static int pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  (void)nthreads;
  pack_blocks(p, w, 0, packed);
  return FC_OK;
}

/* The same from what has been packed without a shift. */
static void shift_blocks(const fc_conv_plan *p, const char *packed, int64_t shift, char *to) {
  const int64_t es = p->es, vl = p->kn->vl, taps = fc_product3(p->d.ker), channels = p->d.groups;
  for (int64_t i = 0; i < fc_depth_blocks(p, channels + shift); i++)
    for (int64_t l = 0, n; l < vl; l += n) {
      const int64_t channel = fc_depth_lane(p, channels, shift, i) + l, block = channel / vl;
      const int64_t lane = channel - fc_depth_block_channel(p, block);
      n = fc_min(vl - l, vl - lane);
      for (int64_t t = 0; t < taps; t++)
        memcpy(to + ((i * taps + t) * vl + l) * es, packed + ((block * taps + t) * vl + lane) * es, (size_t)(n * es));
    }
}

/* ---- blocks of lines ---- */

/* How far the taps of a phase reach along an axis, and what all phases of a plan need at most. */
static int64_t reach(const fc_axis *a) { return a->ntap ? labs(a->off[a->ntap - 1] - a->off[0]) + 1 : 1; }

static int64_t most_lines(const fc_conv_plan *p) {
  int64_t most = 0;
  for (int f = 0; f < p->nphase; f++) most = fc_max(most, p->phases[f].ax[1].count);
  return most;
}

static int64_t sources(const fc_conv_plan *p, int64_t lines) {
  int64_t most = 0;
  for (int f = 0; f < p->nphase; f++) {
    const fc_axis *ax = p->phases[f].ax;
    most = fc_max(most, ax[0].ntap * ((fc_min(lines, ax[1].count) - 1) * ax[1].src_step + reach(&ax[1])));
  }
  return most;
}

static int64_t columns(const fc_conv_plan *p) {
  int64_t most = 0;
  for (int f = 0; f < p->nphase; f++) {
    const fc_axis *a = &p->phases[f].ax[2];
    most = fc_max(most, fc_depth_columns(fc_min(a->count, FC_DEPTH_RUN), 1, a->src_step, 1) + reach(a) - 1);
  }
  return most;
}

/* Lines whose table is small: whole tiles. What phases write lies between each other: one tile of each, so that they meet in
 * the caches. */
int64_t fc_depth_lines_at_once(const fc_conv_plan *p) {
  if (p->nphase > 1) return FC_DEPTH_LINES;
  int64_t lines = fc_round_up(most_lines(p), FC_DEPTH_LINES);
  if (fc_depth_own(p)->pixel) lines = fc_min(lines, FC_DEPTH_COPIED_LINES);
  while (lines > FC_DEPTH_LINES && sources(p, lines) * columns(p) * (int64_t)sizeof(void *) > FC_DEPTH_TABLE)
    lines -= FC_DEPTH_LINES;
  return lines;
}

static int64_t zeros_bytes(const fc_conv_plan *p, int64_t pixel, int64_t channels) {
  return fc_round_up(((fc_min(p->d.ker[2], FC_DEPTH_TAPS) - 1) * pixel + channels) * p->es, FC_ALIGN);
}

/* Scratch of a block of so many lines: zeros for the padding, a tile's results, taps, rows, addresses. */
static int64_t raw_bytes(const fc_conv_plan *p, int64_t channels) {
  return fc_round_up((FC_DEPTH_LINES * channels + p->kn->vl) * p->es, FC_ALIGN);
}

int64_t fc_depth_block_bytes(const fc_conv_plan *p, int64_t lines, int64_t pixel, int64_t channels) {
  const int64_t taps = p->d.ker[0] * p->d.ker[1], rows = sources(p, lines);
  return zeros_bytes(p, pixel, channels) + raw_bytes(p, channels) +
         fc_round_up(taps * (int64_t)sizeof(fc_depth_row) + rows * (1 + columns(p)) * (int64_t)sizeof(void *), FC_ALIGN);
}

fc_depth fc_depth_block_scratch(const fc_conv_plan *p, char *zeros, int64_t lines, int64_t pixel, int64_t channels,
                                int64_t shift) {
  char *raw = zeros + zeros_bytes(p, pixel, channels);
  fc_depth_row *row = (fc_depth_row *)(raw + raw_bytes(p, channels));
  const void **src = (const void **)(row + p->d.ker[0] * p->d.ker[1]);
  memset(zeros, 0, (size_t)zeros_bytes(p, pixel, channels));
  return (fc_depth){.lanes = channels,
                    .shift = shift,
                    .pixel = pixel,
                    .row = row,
                    .src = src,
                    .at = src + sources(p, lines),
                    .zeros = zeros,
                    .raw = raw + shift * p->es,
                    .act = &p->d.act};
}

/* Lines h to h1 of a phase, slice d: the rows of taps that they see, whose weights are at wei, and where what these read lies
 * in src. */
void fc_depth_place_block(fc_depth *t, const fc_conv_plan *p, const fc_phase *ph, const fc_depth_source *src, const char *wei,
                          int64_t d, int64_t h, int64_t h1) {
  const fc_axis *ax = ph->ax;
  const int64_t es = p->es, height = (h1 - h - 1) * ax[1].src_step + reach(&ax[1]);
  fc_depth_row *row = (fc_depth_row *)t->row;
  const void **at = (const void **)t->src;
  t->count = ax[2].count;
  t->lines = h1 - h;
  t->sources = t->rows = t->first = 0;
  t->taps = t->spacing = t->slices = 1;
  t->even = 0;
  t->line_step = ax[1].src_step;
  t->step = ax[2].src_step;
  t->length = src->wide;
  t->block = fc_depth_block_elements(p);
  if (!phase_taps(ph)) return;
  const int64_t low = ax[1].off[nth(&ax[1], 0)];
  for (int i = 0; i < ax[0].ntap; i++) {
    const int64_t sd = d * ax[0].src_step + ax[0].off[nth(&ax[0], i)];
    for (int k = 0; k < ax[1].ntap; k++, t->rows++)
      *row++ = (fc_depth_row){t->sources + ax[1].off[nth(&ax[1], k)] - low, wei + t->rows * ax[2].ntap * p->kn->vl * es};
    for (int64_t y = 0; y < height; y++) {
      const int64_t sh = h * ax[1].src_step + low + y;
      const int inside = (uint64_t)sd < (uint64_t)p->src_size[0] && sh >= src->low && sh < src->high;
      at[t->sources++] = inside ? src->at + ((sd - src->front) * src->slice + (sh - src->low) * src->row) * es : 0;
    }
  }
  t->first = ax[2].off[nth(&ax[2], 0)] - src->left;
  t->taps = ax[2].ntap;
  if (t->taps > 1) t->spacing = ax[2].off[nth(&ax[2], 1)] - ax[2].off[nth(&ax[2], 0)];
  t->slices = ax[0].ntap;
  t->even = reach(&ax[1]) == ax[1].ntap && t->spacing == 1 && t->line_step == t->step;
}

/* ---- copies of a few channels' rows, padded, where pixels lie so far apart that they meet in few sets of the first cache ----
 */

int64_t fc_depth_source_rows(const fc_conv_plan *p, int64_t lines) {
  return (lines - 1) * p->phases[0].ax[1].src_step + fc_depth_own(p)->span[1];
}

/* From row to row: an odd number of cache lines. */
static int64_t copy_row(const fc_conv_plan *p, int64_t channels) {
  const int64_t line = FC_ALIGN / p->es;
  return fc_round_up(fc_depth_own(p)->columns * channels, 2 * line) + line;
}

int64_t fc_depth_copy_bytes(const fc_conv_plan *p, int64_t lines, int64_t channels) {
  const int64_t rows = fc_depth_own(p)->span[0] * fc_depth_source_rows(p, lines);
  return fc_depth_own(p)->pixel ? rows * copy_row(p, channels) * p->es : 0;
}

/* Steps read fewer lines at a time, and copies do not pay. */
void fc_depth_prepare(fc_conv_plan *p) {
  const fc_axis *ax = p->phases[0].ax;
  const int64_t channels = FC_DEPTH_COPIED / p->es, line = FC_ALIGN / p->es;
  const int64_t read = p->d.ker[0] * (FC_DEPTH_LINES - 1 + p->d.ker[1]) * p->d.ker[2] * FC_ALIGN;
  fc_depth_own(p)->chunk = line * fc_max(4, FC_DEPTH_NEAR / read);
  int64_t most[3];
  fc_reach(p, fc_depth_own(p)->low, fc_depth_own(p)->span, most);
  if (p->nphase > 1 || ax[1].src_step > 1 || ax[2].src_step > 1) return;
  if (p->src_stride[4] * p->es % FC_DEPTH_APART || p->d.groups < channels) return;
  fc_depth_own(p)->pixel = fc_depth_own(p)->chunk = channels;
  fc_depth_own(p)->columns = most[2] - 1 + fc_depth_own(p)->span[2];
}

/* The channels, of so many from c on, that are gone through at a time. */
static int64_t together(const fc_conv_plan *p, int64_t channels, int64_t c) {
  return channels - c >= 2 * fc_depth_own(p)->chunk ? fc_depth_own(p)->chunk : channels - c;
}

/* At most, where blocks that begin earlier belong to the next ones. */
static int64_t most_together(const fc_conv_plan *p, int64_t channels) {
  return fc_min(channels, 2 * fc_depth_own(p)->chunk - 1 + p->kn->vl);
}

/* The rows of an image, at src, that slice d and lines h to h1 of its result see, as they are or copied. */
fc_depth_source fc_depth_take_rows(const fc_conv_plan *p, const char *src, int64_t channels, int64_t d, int64_t h, int64_t h1,
                                   char *copy) {
  const int64_t es = p->es, *ss = p->src_stride;
  if (!fc_depth_own(p)->pixel) return (fc_depth_source){src, 0, 0, p->src_size[1], ss[2], ss[3], 0, p->src_size[2]};
  const int64_t top = h * p->phases[0].ax[1].src_step + fc_depth_own(p)->low[1], rows = fc_depth_source_rows(p, h1 - h),
                row = copy_row(p, channels);
  const int64_t front = d * p->phases[0].ax[0].src_step + fc_depth_own(p)->low[0], left = fc_max(0, -fc_depth_own(p)->low[2]);
  const int64_t right = fc_max(left, fc_min(fc_depth_own(p)->columns, p->src_size[2] - fc_depth_own(p)->low[2])),
                bytes = channels * es;
  for (int64_t i = 0; i < fc_depth_own(p)->span[0] * rows; i++) {
    const int64_t z = front + i / rows, y = top + i % rows;
    char *to = copy + i * row * es;
    if ((uint64_t)z >= (uint64_t)p->src_size[0] || (uint64_t)y >= (uint64_t)p->src_size[1]) {
      memset(to, 0, (size_t)(fc_depth_own(p)->columns * bytes));
      continue;
    }
    const char *from = src + (z * ss[2] + y * ss[3] + fc_depth_own(p)->low[2] * ss[4]) * es;
    memset(to, 0, (size_t)(left * bytes));
    for (int64_t x = left; x < right; x++) memcpy(to + x * bytes, from + x * ss[4] * es, (size_t)bytes);
    memset(to + right * bytes, 0, (size_t)((fc_depth_own(p)->columns - right) * bytes));
  }
  return (fc_depth_source){copy, front, top, top + rows, rows * row, row, fc_depth_own(p)->low[2], fc_depth_own(p)->columns};
}

/* ---- forward, backward-input: a piece is a block of lines, where these are few of some channels ---- */

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t most = most_lines(p), slices = p->d.n * p->phases[0].ax[0].count, few = nthreads > 1 ? 4 * nthreads : 1;
  const int64_t whole = 2 * fc_max(p->kn->vl, FC_ALIGN / p->es);
  j->piece_m = fc_depth_lines_at_once(p);
  while (j->piece_m > FC_DEPTH_LINES && slices * fc_div_up(most, j->piece_m) < few)
    j->piece_m = fc_round_up(j->piece_m / 2, FC_DEPTH_LINES);
  j->pieces_m = fc_div_up(most, j->piece_m);
  j->pieces_n = fc_max(1, fc_min(p->d.groups / whole, few / (slices * j->pieces_m)));
  j->piece_n = j->pieces_n > 1 ? p->d.groups / j->pieces_n / whole * whole : p->d.groups;
  const int64_t channels = most_together(p, p->d.groups);
  j->scratch = fc_depth_block_bytes(p, j->piece_m, fc_depth_own(p)->pixel ? channels : p->src_stride[4], channels) +
               fc_depth_copy_bytes(p, j->piece_m, channels);
  j->shared = fc_round_up(fc_depth_blocks(p, p->d.groups + p->kn->vl) * fc_depth_block_elements(p) * p->es, FC_ALIGN);
  return slices * j->pieces_m * j->pieces_n;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const int64_t es = p->es, *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.add_stride, slices = p->phases[0].ax[0].count;
  const int64_t part = index % j->pieces_n, c0 = part * j->piece_n;
  const int64_t c1 = part == j->pieces_n - 1 ? p->d.groups : c0 + j->piece_n;
  const int64_t m = index / j->pieces_n % j->pieces_m, slice = index / j->pieces_n / j->pieces_m;
  const int64_t b = slice / slices, d = slice % slices, most = most_lines(p);
  const int64_t h0 = m * j->piece_m, h1 = fc_min(most, h0 + j->piece_m);
  char *copy = j->workspace + j->shared + worker * j->scratch;
  const int64_t shifted = fc_depth_shift(p, p->d.groups, j->first);
  for (int64_t i = c0, blocks; i < c1; i += blocks) {
    blocks = together(p, c1, i);
    /* The channels of these blocks: all but the first of all begin earlier. */
    const int64_t shift = i ? 0 : shifted, c = i ? i - shifted : 0;
    const int64_t channels = (i + blocks == p->d.groups ? p->d.groups : i + blocks - shifted) - c;
    const char *wei = j->packed + i / p->kn->vl * fc_depth_block_elements(p) * es;
    const fc_depth_source src = fc_depth_take_rows(p, j->first + (b * ss[0] + c) * es, channels, d, h0, h1, copy);
    fc_depth t = fc_depth_block_scratch(p, copy + fc_depth_copy_bytes(p, j->piece_m, channels), j->piece_m,
                                        fc_depth_own(p)->pixel ? channels : ss[4], channels, shift);
    t.bias = j->bias ? j->bias + c * es : 0;
    for (int f = 0; f < p->nphase; wei += phase_taps(&p->phases[f++]) * p->kn->vl * es) {
      const fc_axis *ax = p->phases[f].ax;
      if (d >= ax[0].count || h0 >= ax[1].count) continue;
      fc_depth_place_block(&t, p, &p->phases[f], &src, wei, d, h0, fc_min(h1, ax[1].count));
      const int64_t od = ax[0].dst_base + d * ax[0].dst_step, oh = ax[1].dst_base + h0 * ax[1].dst_step;
      t.out = j->result + (b * ds[0] + c + od * ds[2] + oh * ds[3] + ax[2].dst_base * ds[4]) * es;
      t.out_step = ax[2].dst_step * ds[4];
      t.out_line = ax[1].dst_step * ds[3];
      t.add = j->add ? j->add + (b * as[0] + c + od * as[2] + oh * as[3] + ax[2].dst_base * as[4]) * es : 0;
      t.add_step = ax[2].dst_step * as[4];
      t.add_line = ax[1].dst_step * as[3];
      p->kn->depth(&t);
    }
  }
}

static int run(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t n = pieces(j, nthreads), shift = fc_depth_shift(p, p->d.groups, j->first);
  if (!j->packed)
    pack_blocks(p, j->second, shift, j->workspace);
  else if (shift)
    shift_blocks(p, j->packed, shift, j->workspace);
  if (!j->packed || shift) j->packed = j->workspace;
  return fc_parallel_for(nthreads, n, piece, j);
}

/* ---- the same by strips of a vector of channels: a piece is a block of lines of one ---- */

int64_t fc_depth_strip_bytes(const fc_conv_plan *p, int64_t rows, int64_t width) {
  return fc_round_up(rows * width * p->kn->vl * p->es, FC_ALIGN);
}

/* Lines whose strips stay in L2, in blocks of much the same size. */
int64_t fc_depth_strip_blocks(const fc_conv_plan *p, int64_t *lines) {
  const int64_t most = most_lines(p), step = p->phases[0].ax[1].dst_step;
  *lines = fc_round_up(most, FC_DEPTH_LINES);
  while (*lines > FC_DEPTH_LINES && fc_depth_strip_bytes(p, fc_depth_source_rows(p, *lines), p->src_size[2]) +
                                            fc_depth_strip_bytes(p, *lines * step, p->dst_size[2]) >
                                        FC_DEPTH_STRIPS)
    *lines -= FC_DEPTH_LINES;
  return fc_div_up(most, *lines);
}

/* Channels of a block that are new: the last block overlaps the one before. Its first channel is at most groups - vl. */
int64_t fc_depth_block_channel(const fc_conv_plan *p, int64_t block) {
  return fc_max(0, fc_min(block * p->kn->vl, p->d.groups - p->kn->vl));
}

/* Rows top to top + rows of an image (planes at src, strides like p->src_stride) as a strip; zeros beyond. */
void fc_depth_fill_strip(const fc_conv_plan *p, char *strip, const char *src, const int64_t *stride, int64_t high, int64_t wide,
                         int64_t top, int64_t rows) {
  const int64_t es = p->es, low = fc_max(0, -top), end = fc_max(low, fc_min(rows, high - top)), pixel = p->kn->vl * es;
  const int vl = p->kn->vl, lanes = (int)fc_min(vl, p->d.groups), dense = stride[4] == 1 && stride[3] == wide;
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < vl; l++) off[l] = l * stride[1];
  memset(strip, 0, (size_t)(fc_min(low, rows) * wide * pixel));
  for (int64_t y = low; y < end; y += dense ? end - low : 1)
    p->kn->pack(strip + y * wide * pixel, vl, lanes, src + (top + y) * stride[3] * es, off, stride[4],
                dense ? (end - low) * wide : wide);
  if (end < rows) memset(strip + end * wide * pixel, 0, (size_t)((rows - end) * wide * pixel));
}

static int64_t strip_pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  (void)nthreads;
  j->pieces_m = fc_depth_strip_blocks(p, &j->piece_m);
  j->pieces_n = fc_depth_blocks(p, p->d.groups);
  j->scratch = fc_depth_strip_bytes(p, fc_depth_source_rows(p, j->piece_m), p->src_size[2]) +
               fc_depth_strip_bytes(p, j->piece_m * p->phases[0].ax[1].dst_step, p->dst_size[2]) +
               fc_depth_block_bytes(p, j->piece_m, p->kn->vl, p->kn->vl);
  return p->d.n * j->pieces_n * j->pieces_m;
}

static void strip_piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const int64_t es = p->es, vl = p->kn->vl, *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.add_stride,
                wide = p->dst_size[2];
  const int64_t m = index % j->pieces_m, block = index / j->pieces_m % j->pieces_n, b = index / j->pieces_m / j->pieces_n;
  const int64_t c = fc_depth_block_channel(p, block), most = most_lines(p);
  const int64_t h0 = most * m / j->pieces_m, h1 = most * (m + 1) / j->pieces_m, step = p->phases[0].ax[1].dst_step;
  const int64_t top = h0 * p->phases[0].ax[1].src_step + fc_depth_own(p)->low[1], rows = fc_depth_source_rows(p, h1 - h0);
  char *strip = j->workspace + worker * j->scratch;
  char *out = strip + fc_depth_strip_bytes(p, fc_depth_source_rows(p, j->piece_m), p->src_size[2]);
  fc_depth t = fc_depth_block_scratch(p, out + fc_depth_strip_bytes(p, j->piece_m * step, wide), j->piece_m, vl, vl, 0);
  const fc_depth_source src = {strip, 0, top, top + rows, 0, p->src_size[2] * vl, 0, p->src_size[2]};
  const char *wei = j->packed + block * fc_depth_block_elements(p) * es;
  fc_depth_fill_strip(p, strip, j->first + (b * ss[0] + c * ss[1]) * es, ss, p->src_size[1], p->src_size[2], top, rows);
  const fc_act none = {FC_ACT_NONE, 0, 0};
  t.act = &none;
  for (int f = 0; f < p->nphase; wei += phase_taps(&p->phases[f++]) * vl * es) {
    const fc_axis *ax = p->phases[f].ax;
    if (h0 >= ax[1].count) continue;
    fc_depth_place_block(&t, p, &p->phases[f], &src, wei, 0, h0, fc_min(h1, ax[1].count));
    t.out = out + (ax[1].dst_base * wide + ax[2].dst_base) * vl * es;
    t.out_step = ax[2].dst_step * vl;
    t.out_line = step * wide * vl;
    p->kn->depth(&t);
  }
  const int64_t y0 = h0 * step, lines = fc_min(p->dst_size[1], h1 * step) - y0, fresh = block * vl;
  const int dense = ds[3] == wide && (!j->add || as[3] == wide);
  fc_depth_planes w = {.strip = out,
                       .lane = (int)(fresh - c),
                       .channels = (int)fc_min(vl, p->d.groups - fresh),
                       .count = dense ? lines * wide : wide,
                       .plane = ds[1],
                       .add_plane = as[1],
                       .bias = j->bias ? j->bias + fresh * es : 0,
                       .act = &p->d.act};
  for (int64_t y = 0; y < lines; y += dense ? lines : 1) {
    w.strip = out + y * wide * vl * es;
    w.out = j->result + (b * ds[0] + fresh * ds[1] + (y0 + y) * ds[3]) * es;
    w.add = j->add ? j->add + (b * as[0] + fresh * as[1] + (y0 + y) * as[3]) * es : 0;
    p->kn->depth_planes(&w);
  }
}

/* ---- */

const char *fc_depth_refuse(const fc_conv_plan *p) {
  return p->d.icg != 1 || p->d.ocg != 1 || p->d.groups == 1 ? "the layer is not depthwise" : 0;
}

const fc_algorithm fc_conv_depthwise = {
    .name = "depthwise_channels",
    .state = sizeof(fc_depth_fields),
    .directions = FC_OF_IMAGES,
    .refuse = fc_depth_refuse,
    .strides = FC_SOURCE_CHANNELS | FC_RESULT_CHANNELS | FC_ADD_CHANNELS | FC_SOURCE_AHEAD,
    .prepare = fc_depth_prepare,
    .packed = packed_elements,
    .pack = pack,
    .pieces = pieces,
    .run = piece,
    .execute = run,
};

/* ---- */

void fc_depth_prepare_strips(fc_conv_plan *p) {
  int64_t most[3];
  fc_reach(p, fc_depth_own(p)->low, fc_depth_own(p)->span, most);
}

const char *fc_depth_refuse_strips(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  if (d->x_size[0] != 1 || d->y_size[0] != 1 || d->ker[0] != 1) return "there are slices";
  return fc_depth_refuse(p);
}

const char *fc_depth_slow_strips(const fc_conv_plan *p) {
  return 4 * p->d.groups < FC_CHOOSE_STRIPS_QUARTERS * p->kn->vl ? "the channels do not fill three quarters of a vector" : 0;
}

const fc_algorithm fc_conv_depthwise_strips = {
    .name = "depthwise_strips",
    .state = sizeof(fc_depth_fields),
    .directions = FC_OF_IMAGES,
    .refuse = fc_depth_refuse_strips,
    .strides = FC_RESULT_PIXELS,
    .prepare = fc_depth_prepare_strips,
    .packed = packed_elements,
    .pack = pack,
    .pieces = strip_pieces,
    .run = strip_piece,
    .slow = fc_depth_slow_strips,
};
