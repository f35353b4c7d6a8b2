/* Forward and backward-input as an implicit GEMM. Two orientations of one computation: where pixels lie next to each other
 * in the result (NCHW) they are the columns, their patches packed as the product goes along; where channels do (NHWC)
 * pixels are the rows, read where they are. */
#include "conv/conv.h"

/* What a plan of these algorithms knows: of one tap, pixels that lie in steps come in runs of so many; 0 if they do not. */
typedef struct fields {
  int64_t pointwise_run;
} fields;

static fields *own(const fc_conv_plan *p) { return p->state; }

static int by_channel(const fc_conv_plan *p) { return p->algorithm == &fc_conv_rows; }

typedef struct weight_job {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} weight_job;

static int tile_of(const fc_conv_plan *p) { return by_channel(p) ? p->kn->nr : p->kn->mr; }

/* Filters are contiguous in most arrays: some are transposed whole into rows of lanes, then the rows go to their places. */
static int whole_filters(const fc_conv_plan *p) {
  const int64_t *ws = p->d.w_stride, *ker = p->d.ker, whole = fc_product3(ker);
  return whole > 1 && whole <= FC_FILTER_ROWS && (ker[2] == 1 || ws[4] == 1) && (ker[1] == 1 || ws[3] == ker[2]) &&
         (ker[0] == 1 || ws[2] == ker[2] * ker[1]);
}

int64_t fc_filter_step(const fc_conv_plan *p) { return fc_max(1, FC_FILTER_ROWS / fc_product3(p->d.ker)); }

void fc_filter_rows(const fc_conv_plan *p, const char *w, int tile, int64_t l0, int64_t c, int64_t c1, void *rows) {
  const int64_t whole = fc_product3(p->d.ker), es = p->es;
  const int lanes = (int)fc_min(tile, p->dst_channels - l0);
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < tile; l++) off[l] = l * p->w_dst;
  w += l0 * p->w_dst * es;
  if (whole_filters(p) && p->w_src == whole) {
    p->kn->pack(rows, tile, lanes, w + c * whole * es, off, 1, (c1 - c) * whole);
    return;
  }
  for (int64_t x = c; x < c1; x++) {
    char *to = (char *)rows + (x - c) * whole * tile * es;
    if (whole_filters(p)) {
      /* Each channel's may be in a page of its own. */
      const uintptr_t next = (uintptr_t)w + (uintptr_t)((x + 8) * p->w_src * es);
      for (int64_t i = 0; i < lanes * whole * es; i += FC_ALIGN) __builtin_prefetch((const void *)(next + (uintptr_t)i));
      p->kn->pack(to, tile, lanes, w + x * p->w_src * es, off, 1, whole);
    } else
      for (int64_t t = 0; t < whole; t++)
        p->kn->pack(to + t * tile * es, tile, lanes, w + (x * p->w_src + fc_tap_stride(&p->d, t)) * es, off, p->w_src, 1);
  }
}

/* Lanes l0.. of one panel, source channels c .. c1, for a phase: k runs over taps, then channels. w: this group's weights;
 * rows: those of fc_filter_rows, or NULL. */
static void pack_phase(const fc_conv_plan *p, const fc_phase *ph, const char *w, const char *rows, char *packed, int64_t l0,
                       int64_t c, int64_t c1) {
  const int tile = tile_of(p), lanes = (int)fc_min(tile, p->dst_channels - l0);
  const int64_t *ker = p->d.ker, es = p->es, whole = fc_product3(ker), row = tile * es;
  const int64_t kstep = fc_product_kstep(p->kn, ph->k);
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < tile; l++) off[l] = (l0 + l) * p->w_dst;
  int64_t tap = 0;
  for (int td = 0; td < ph->ax[0].ntap; td++)
    for (int th = 0; th < ph->ax[1].ntap; th++)
      for (int tw = 0; tw < ph->ax[2].ntap; tw++, tap++) {
        const int64_t z = (ph->ax[0].tap[td] * ker[1] + ph->ax[1].tap[th]) * ker[2] + ph->ax[2].tap[tw];
        for (int64_t x = c, run; x < c1; x += run) {
          /* Up to the end of this block of the reduction. */
          const int64_t k = tap * p->src_channels + x, k0 = k / kstep * kstep, k1 = fc_min(ph->k, k0 + kstep);
          run = fc_min(c1 - x, k1 - k);
          char *to = packed + (fc_packed_at(p->dst_channels, tile, l0, k0, k1 - k0) + (k - k0) * tile) * es;
          if (!rows)
            p->kn->pack(to, tile, lanes, w + (fc_tap_stride(&p->d, z) + x * p->w_src) * es, off, p->w_src, run);
          else
            for (int64_t y = 0; y < run; y++) {
              const char *from = rows + ((x - c + y) * whole + z) * row;
              if (row == FC_ALIGN)
                memcpy(to + y * row, from, FC_ALIGN);
              else
                for (int64_t b = 0; b < row; b += 8) memcpy(to + y * row + b, from + b, 8);
            }
        }
      }
}

/* The same for all phases, which read each filter once. */
static void pack_panel(const fc_conv_plan *p, int64_t g, const char *w, char *packed, int64_t l0, int64_t c, int64_t c1) {
  const int tile = tile_of(p), filters = whole_filters(p);
  fc_filter_memory rows;
  if (filters) fc_filter_rows(p, w, tile, l0, c, c1, &rows);
  for (const fc_phase *ph = p->phases; ph < p->phases + p->nphase; ph++)
    pack_phase(p, ph, w, filters ? (const char *)&rows : 0,
               packed + (ph->packed + g * fc_packed_elements(p->dst_channels, tile, ph->k)) * p->es, l0, c, c1);
}

/* Source channels that are packed at a time; where those lie further apart than lanes, few: the next lanes of each are
 * then still near, in cache and in the TLB. */
static int64_t channel_step(const fc_conv_plan *p) {
  return whole_filters(p) ? fc_filter_step(p) : p->w_dst < p->w_src ? FC_FILTER_ROWS / 2 : p->src_channels;
}

/* Parts of the work: panels, or channels where those lie further apart in memory than lanes do. */
static int64_t weight_parts(const fc_conv_plan *p) {
  return p->w_dst < p->w_src ? fc_div_up(p->src_channels, channel_step(p)) : fc_div_up(p->dst_channels, tile_of(p));
}

static void pack_part(void *ctx, int64_t index, int worker) {
  (void)worker;
  const weight_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const int tile = tile_of(p);
  const int64_t parts = weight_parts(p), part = index % parts, g = index / parts, step = channel_step(p);
  const char *w = j->w + g * p->d.ocg * p->d.w_stride[0] * p->es;
  if (p->w_dst < p->w_src)
    for (int64_t l = 0; l < p->dst_channels; l += tile)
      pack_panel(p, g, w, j->packed, l, part * step, fc_min(p->src_channels, (part + 1) * step));
  else
    for (int64_t c = 0; c < p->src_channels; c += step)
      pack_panel(p, g, w, j->packed, part * tile, c, fc_min(p->src_channels, c + step));
}

static int pack_weights(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  weight_job j = {p, w, packed};
  return fc_parallel_for(fc_conv_packers(p, nthreads), p->d.groups * weight_parts(p), pack_part, &j);
}

static int64_t packed_elements(const fc_conv_plan *p) {
  const fc_phase *last = &p->phases[p->nphase - 1];
  return last->packed + p->d.groups * fc_packed_elements(p->dst_channels, tile_of(p), last->k);
}

/* Do an image's pixels, or all images', lie in steps? */
static int in_steps(const int64_t size[3], const int64_t s[5], int images) {
  const int64_t row = size[2] * s[4], slice = size[1] * row;
  return (size[1] == 1 || s[3] == row) && (size[0] == 1 || s[2] == slice) && (!images || s[0] == size[0] * slice);
}

/* How many of the pixels follow each other in the same steps in all arrays, if there are no taps between them. Images one by
 * one have edges of their own, which must not be wide. */
static int64_t even_pixels(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int64_t plane = fc_product3(p->dst_size), vl = p->kn->vl;
  for (int i = 0; i < 3; i++)
    if (d->ker[i] != 1 || d->stride[i] != 1 || d->pad[i] != 0 || d->x_size[i] != d->y_size[i]) return 0;
  for (int images = 1; images >= 0; images--)
    if (in_steps(p->dst_size, p->src_stride, images) && in_steps(p->dst_size, p->dst_stride, images) &&
        (!d->has_add || in_steps(p->dst_size, d->add_stride, images)))
      return images ? d->n * plane : 100 * fc_round_up(plane, vl) <= 101 * plane ? plane : 0;
  return 0;
}

static void prepare(fc_conv_plan *p) {
  int64_t packed = 0;
  own(p)->pointwise_run = even_pixels(p);
  for (int f = 0; f < p->nphase; f++) {
    p->phases[f].packed = packed;
    packed += p->d.groups * fc_packed_elements(p->dst_channels, tile_of(p), p->phases[f].k);
  }
}

/* Panels of patches: lanes are pixels, k runs over taps, then source channels. */
static void pack_pixels(const fc_pixels *t, void *dst, int tile, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const fc_conv_plan *p = t->p;
  const fc_axis *ax = t->ph->ax;
  const int64_t es = p->es, sc = p->src_channels;
  int64_t off[FC_MAX_LANES];
  if (own(p)->pointwise_run) {
    for (int i = 0; i < tile; i++) off[i] = i * p->src_stride[4];
    const char *src = t->src + ((l0 - t->first) * p->src_stride[4] + k0 * p->src_stride[1]) * es;
    for (int64_t l = l0; l < l1; l += tile, src += off[1] * tile * es, dst = (char *)dst + tile * (k1 - k0) * es)
      p->kn->pack(dst, tile, (int)fc_min(tile, l1 - l), src, off, p->src_stride[1], k1 - k0);
    return;
  }
  for (int64_t l = l0; l < l1; l += tile) {
    const int lanes = (int)fc_min(tile, l1 - l);
    const int64_t *base = t->base + (l - t->first);
    const int32_t *pos = t->pos + 3 * (l - t->first);
    for (int64_t k = k0; k < k1;) {
      const int64_t tap = k / sc, c = k % sc, run = fc_min(sc - c, k1 - k);
      const int tw = (int)(tap % ax[2].ntap), th = (int)(tap / ax[2].ntap % ax[1].ntap),
                td = (int)(tap / ax[2].ntap / ax[1].ntap);
      const int32_t od = ax[0].off[td], oh = ax[1].off[th], ow = ax[2].off[tw];
      const int64_t shift = od * p->src_stride[2] + oh * p->src_stride[3] + ow * p->src_stride[4];
      for (int i = 0; i < lanes; i++) {
        const int inside = (uint64_t)(pos[3 * i] + (int64_t)od) < (uint64_t)p->src_size[0] &&
                           (uint64_t)(pos[3 * i + 1] + (int64_t)oh) < (uint64_t)p->src_size[1] &&
                           (uint64_t)(pos[3 * i + 2] + (int64_t)ow) < (uint64_t)p->src_size[2];
        off[i] = inside ? base[i] + shift : FC_PAD;
      }
      p->kn->pack((char *)dst + (k - k0) * tile * es, tile, lanes, t->src + c * p->src_stride[1] * es, off, p->src_stride[1],
                  run);
      k += run;
    }
    dst = (char *)dst + tile * (k1 - k0) * es;
  }
}

/* Where the channels of a pixel of the source are contiguous, a patch is a few runs of channels, which need no packing. */
static int reads_rows(const fc_conv_plan *p) { return by_channel(p) && p->src_stride[1] == 1; }

/* Planes of even pixels are read where they are if so few results read them that packing would not pay. */
static int reads_planes(const fc_conv_plan *p) {
  return own(p)->pointwise_run && !by_channel(p) && p->src_stride[4] == 1 && p->dst_channels <= 2 * p->kn->nr &&
         fc_whole_vectors(p->kn, own(p)->pointwise_run);
}

static void pack_pixels_b(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const fc_pixels *t = work;
  pack_pixels(t, dst, t->p->kn->nr, l0, l1, k0, k1);
}

static void pack_pixels_a(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const fc_pixels *t = work;
  pack_pixels(t, dst, t->p->kn->mr, l0, l1, k0, k1);
}

/* Pixels up to which weights are not worth packing. */
enum { FC_IN_PLACE_PIXELS = 128 };

/* Weights of one tap are read where they are, if packing them would take longer than the few pixels gain. */
static int weights_in_place(const fc_conv_plan *p) {
  return !by_channel(p) && p->nphase == 1 && fc_product3(p->d.ker) == 1 && (p->w_src == 1 || p->w_dst == 1) &&
         p->phases[0].pixels <= FC_IN_PLACE_PIXELS;
}

/* Rows m0 to m1 of a group's, at w: each a run of channels, or side by side. */
static fc_operand as_they_are(const fc_conv_plan *p, const char *w, int64_t m0, int64_t m1, const char **at, fc_rows *rows) {
  if (p->w_src != 1) return (fc_operand){.at = w, .step = p->w_src, .in_place = 1};
  for (int64_t i = m0; i < m1; i++) at[i - m0] = w + i * p->w_dst * p->es;
  *rows = (fc_rows){(const void *const *)at, p->src_channels, m1 - m0};
  return (fc_operand){.rows = rows};
}

/* Pixels that pieces are cut from: a phase's, or a run of even ones. */
static int64_t pixels_of(const fc_conv_plan *p, const fc_phase *ph) {
  return own(p)->pointwise_run ? own(p)->pointwise_run : ph->pixels;
}

static void partition_phase(const fc_conv_plan *p, const fc_phase *ph, int nthreads, int64_t *pm, int64_t *pn) {
  const fc_kernels *kn = p->kn;
  const int64_t pixels = pixels_of(p, ph), copies = p->d.groups * p->nphase * (ph->pixels / pixels);
  if (by_channel(p)) /* rows are pixels: one block of rows a piece, all channels */
    fc_partition(pixels, p->dst_channels, kn->mr, kn->nr, (reads_rows(p) ? 2 : 1) * kn->mc, 8 * FC_PIECE_LANES / kn->nr * kn->nr,
                 copies, nthreads, FC_MANY_PIECES, pm, pn);
  else
    fc_partition(p->dst_channels, pixels, kn->mr, kn->nr, 1 << 16, FC_PIECE_LANES / kn->nr * kn->nr, copies, nthreads,
                 FC_MANY_PIECES, pm, pn);
}

/* Pieces of every phase in one row, so that threads stay busy across phases. The first phase is the largest. */
static int64_t pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const fc_phase *ph = &p->phases[0];
  partition_phase(p, ph, nthreads, &j->piece_m, &j->piece_n);
  const int channels = by_channel(p);
  int64_t pixels = pixels_of(p, ph);
  const int64_t runs = ph->pixels / pixels;
  if (j->listed[0]) {
    pixels = 0;
    for (int f = 0; f < p->nphase; f++) pixels = fc_max(pixels, j->listed[f + 1] - j->listed[f]);
  }
  j->pieces_m = fc_div_up(channels ? pixels : p->dst_channels, j->piece_m);
  j->pieces_n = fc_div_up(channels ? p->dst_channels : pixels, j->piece_n);
  int64_t deepest = 0;
  for (int f = 0; f < p->nphase; f++) deepest = fc_max(deepest, fc_min(p->phases[f].k, fc_product_kstep(p->kn, p->phases[f].k)));
  const int64_t lanes = channels ? j->piece_m : j->piece_n;
  const int64_t operand = reads_rows(p) ? fc_pixels_rows_bytes(p, lanes, p->src_channels) : lanes * deepest * p->es;
  const int64_t rows = weights_in_place(p) ? j->piece_m * (int64_t)sizeof(char *) : 0;
  j->scratch = fc_round_up(operand + fc_pixels_bytes(lanes) + rows + 4 * FC_ALIGN, FC_ALIGN);
  return p->nphase * p->d.groups * runs * j->pieces_m * j->pieces_n;
}

/* The addresses of even pixels. */
static void even_rows(const fc_pixels *t, int64_t n, void *memory, fc_rows *rows) {
  const fc_conv_plan *p = t->p;
  const int64_t step = p->src_stride[4] * p->es;
  const char **at = fc_aligned(memory), *src = t->src;
  for (int64_t i = 0; i < n; i++) at[i] = src + i * step;
  *rows = (fc_rows){(const void *const *)at, p->src_channels, n};
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const int64_t es = p->es, groups = p->d.groups, *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.add_stride;
  const int64_t runs = own(p)->pointwise_run ? p->phases[0].pixels / own(p)->pointwise_run : 1,
                per = j->pieces_m * j->pieces_n * runs;
  const int64_t phase = index / (per * groups);
  const fc_phase *ph = &p->phases[phase];
  const int32_t *list = j->listed[0] ? j->listed[phase] : 0;
  const int64_t g = index / per % groups, run = index % per / (j->pieces_m * j->pieces_n),
                part = index % (j->pieces_m * j->pieces_n);
  const int channels = by_channel(p);
  const int64_t pixels = list ? j->listed[phase + 1] - list : pixels_of(p, ph), rows = channels ? pixels : p->dst_channels,
                cols = channels ? p->dst_channels : pixels;
  const int64_t m0 = part % j->pieces_m * j->piece_m, m1 = fc_min(rows, m0 + j->piece_m);
  const int64_t n0 = part / j->pieces_m * j->piece_n, n1 = fc_min(cols, n0 + j->piece_n);
  if (m0 >= m1 || n0 >= n1) return;
  char *scratch = j->workspace + worker * j->scratch;
  const fc_product prod = {kn, es, rows, cols, ph->k, fc_product_kstep(kn, ph->k), 0};
  const int64_t c0 = channels ? n0 : m0, p0 = channels ? m0 : n0, p1 = channels ? m1 : n1, channel = g * p->dst_channels + c0;
  fc_pixels t = {.p = p, .ph = ph, .first = p0, .src = j->first + g * p->src_channels * ss[1] * es};
  fc_view out = {.p = j->result + channel * ds[1] * es};
  fc_view add = {.p = j->add ? (char *)j->add + channel * as[1] * es : 0};
  fc_operand patches = {.pack = channels ? pack_pixels_a : pack_pixels_b, .work = &t};
  fc_operand weights = {.packed = j->packed + (ph->packed + g * fc_packed_elements(p->dst_channels, tile_of(p), ph->k)) * es};
  fc_rows patch_rows, weight_rows;
  if (!j->packed) {
    weights = as_they_are(p, j->second + g * p->d.ocg * p->d.w_stride[0] * es, m0, m1, (const char **)scratch, &weight_rows);
    scratch += (m1 - m0) * (int64_t)sizeof(char *);
  }
  if (own(p)->pointwise_run) {
    t.src += (run * ss[0] + p0 * ss[4]) * es;
    out.p = (char *)out.p + (run * ds[0] + p0 * ds[4]) * es;
    if (add.p) add.p = (char *)add.p + (run * as[0] + p0 * as[4]) * es;
    if (reads_rows(p)) even_rows(&t, p1 - p0, scratch, &patch_rows);
    if (reads_planes(p)) patches = (fc_operand){.at = t.src - p0 * es, .step = ss[1], .in_place = 1};
  } else {
    fc_pixels_decode(&t, p, ph, list, p0, p1, scratch, j->add != 0);
    if (reads_rows(p))
      fc_pixels_rows(&t, p1 - p0, p->src_channels, scratch + fc_round_up(fc_pixels_bytes(p1 - p0), FC_ALIGN), &patch_rows);
  }
  scratch += fc_round_up(fc_pixels_bytes(p1 - p0), FC_ALIGN);
  if (reads_rows(p)) patches.rows = &patch_rows;
  out.rs = ds[channels ? 4 : 1];
  out.cs = ds[channels ? 1 : 4];
  add.rs = as[channels ? 4 : 1];
  add.cs = as[channels ? 1 : 4];
  if (!own(p)->pointwise_run && channels) {
    out.roff = t.out;
    add.roff = t.add;
  } else if (!own(p)->pointwise_run) {
    out.coff = t.out;
    out.crun = t.run;
    add.coff = t.add;
    add.crun = t.add_run;
  }
  const char *bias = j->bias ? j->bias + channel * es : 0;
  const fc_act *act = &p->d.act;
  fc_epilogue ep = {1, 1, channels ? 0 : bias, channels ? bias : 0, act->kind, act->p0, act->p1};
  fc_product_piece(&prod, channels ? patches : weights, channels ? weights : patches, m0, m1, n0, n1, &out, &add, &ep, scratch);
}

static const char *slow_rows(const fc_conv_plan *p) {
  return p->dst_stride[1] == 1 && p->dst_stride[4] != 1 ? 0 : "the channels of the result are not contiguous";
}

const fc_algorithm fc_conv_rows = {
    .name = "implicit_gemm_rows",
    .state = sizeof(fields),
    .directions = FC_OF_IMAGES,
    .prepare = prepare,
    .packed = packed_elements,
    .pack = pack_weights,
    .pieces = pieces,
    .run = piece,
    .slow = slow_rows,
};
const fc_algorithm fc_conv_pixels = {
    .name = "implicit_gemm_pixels",
    .state = sizeof(fields),
    .directions = FC_OF_IMAGES,
    .prepare = prepare,
    .packed = packed_elements,
    .pack = pack_weights,
    .in_place = weights_in_place,
    .pieces = pieces,
    .run = piece,
};
