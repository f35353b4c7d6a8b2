/* Backward-weight as a GEMM whose reduction runs over pixels. */
#include "conv/conv.h"

/* What a plan of this algorithm knows: the output's size, with rows that lie one after another in dy (for x only where
 * pointwise) merged. */
typedef struct fields {
  int64_t dy_rows[3], x_rows[3];
  int pointwise;              /* one tap, stride 1, no padding */
  int transposed;             /* the product's rows are input channels instead of output channels */
} fields;

static fields *own(const fc_conv_plan *p) { return p->state; }

typedef struct weight_work {
  const fc_conv_plan *p;
  const char *x, *dy;
} weight_work;

/* The run of output pixels that starts at the k-th and ends with its row, or before k1. */
typedef struct row {
  int64_t b, d, h, w, len;
} row;

static row row_at(const int64_t size[3], int64_t k, int64_t k1) {
  const int64_t w = k % size[2], r = k / size[2];
  return (row){r / size[1] / size[0], r / size[1] % size[0], r % size[1], w, fc_min(size[2] - w, k1 - k)};
}

/* Rows that lie one after another in memory count as one. */
static void merge_rows(const int64_t size[3], const int64_t strides[5], int64_t merged[3]) {
  memcpy(merged, size, 3 * sizeof *merged);
  if (strides[3] == size[2] * strides[4]) {
    merged[2] *= merged[1];
    merged[1] = 1;
    if (strides[2] == merged[2] * strides[4]) {
      merged[2] *= merged[0];
      merged[0] = 1;
    }
  }
}

/* Pixels that are packed at a time: few where lanes are neighbours, so that the next ones of each are still near. */
static int64_t few_pixels(int64_t lane_stride, int64_t pixels) { return lane_stride == 1 ? 64 : pixels; }

/* Lanes are channels, of which each k is one pixel. */
static void pack_channels(const fc_conv_plan *p, const char *from, const int64_t rows[3], const int64_t strides[5], int tile,
                          char *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const int64_t es = p->es, step = few_pixels(strides[1], k1 - k0);
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < tile; l++) off[l] = l * strides[1];
  for (int64_t z = k0; z < k1; z += step)
    for (int64_t l = l0; l < l1; l += tile) {
      char *to = dst + (l - l0) * (k1 - k0) * es;
      row r;
      for (int64_t k = z, end = fc_min(k1, z + step); k < end; k += r.len) {
        r = row_at(rows, k, end);
        const int64_t at = r.b * strides[0] + l * strides[1] + r.d * strides[2] + r.h * strides[3] + r.w * strides[4];
        p->kn->pack(to + (k - k0) * tile * es, tile, (int)fc_min(tile, l1 - l), from + at * es, off, strides[4], r.len);
      }
    }
}

static void pack_dy(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const weight_work *t = work;
  const fc_conv_plan *p = t->p;
  pack_channels(p, t->dy, own(p)->dy_rows, p->d.y_stride, own(p)->transposed ? p->kn->nr : p->kn->mr, dst, l0, l1, k0, k1);
}

/* Of a layer that is a matrix product. */
static void pack_x(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const weight_work *t = work;
  const fc_conv_plan *p = t->p;
  pack_channels(p, t->x, own(p)->x_rows, p->d.x_stride, p->kn->nr, dst, l0, l1, k0, k1);
}

/* A panel; lanes are (tap, input channel). A row is cut where a tap enters or leaves the padding, so that each part of it
 * packs with the same lanes inside. */
static void pack_patch(const weight_work *t, void *dst, int64_t l, int64_t l1, int64_t k0, int64_t k1) {
  const fc_conv_plan *p = t->p;
  const fc_conv_desc *d = &p->d;
  const int64_t *xs = d->x_stride, es = p->es;
  const int tile = p->kn->nr;
  int64_t lane[FC_MAX_LANES], off[FC_MAX_LANES];
  int64_t at[FC_MAX_LANES][3];
  const int lanes = (int)fc_min(tile, l1 - l);
  /* Lanes of the same tap are in the padding together. */
  const int together = l / d->icg == (l + lanes - 1) / d->icg;
  for (int i = 0; i < lanes; i++) {
    const int64_t tap = (l + i) / d->icg, c = (l + i) % d->icg;
    at[i][0] = tap / d->ker[2] / d->ker[1] * d->dil[0] - d->pad[0];
    at[i][1] = tap / d->ker[2] % d->ker[1] * d->dil[1] - d->pad[1];
    at[i][2] = tap % d->ker[2] * d->dil[2] - d->pad[2];
    lane[i] = c * xs[1] + at[i][0] * xs[2] + at[i][1] * xs[3] + at[i][2] * xs[4];
  }
  row r;
  for (int64_t k = k0; k < k1; k += r.len) {
    r = row_at(d->y_size, k, k1);
    const int64_t id = r.d * d->stride[0], ih = r.h * d->stride[1], s = d->stride[2];
    for (int64_t from = 0, to; from < r.len; from = to) {
      to = r.len;
      for (int i = 0; i < (together ? 1 : lanes); i++) {
        /* tap i is inside for lo <= o < hi */
        const int64_t lo = at[i][2] < 0 ? fc_div_up(-at[i][2], s) - r.w : -r.w;
        const int64_t last = d->x_size[2] - 1 - at[i][2], hi = last < 0 ? -1 : last / s + 1 - r.w;
        const int inside = (uint64_t)(id + at[i][0]) < (uint64_t)d->x_size[0] &&
                           (uint64_t)(ih + at[i][1]) < (uint64_t)d->x_size[1] && lo <= from && from < hi;
        off[i] = inside ? lane[i] : FC_PAD;
        if (lo > from) to = fc_min(to, lo);
        if (hi > from) to = fc_min(to, hi);
      }
      for (int i = 1; together && i < lanes; i++) off[i] = off[0] == FC_PAD ? FC_PAD : lane[i];
      const int64_t base = r.b * xs[0] + id * xs[2] + ih * xs[3] + (r.w + from) * s * xs[4];
      p->kn->pack((char *)dst + (k - k0 + from) * tile * es, tile, lanes, t->x + base * es, off, s * xs[4], to - from);
    }
  }
}

static void pack_patches(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const weight_work *t = work;
  const int64_t step = few_pixels(t->p->d.x_stride[1], k1 - k0), tile = t->p->kn->nr;
  for (int64_t k = k0; k < k1; k += step)
    for (int64_t l = l0; l < l1; l += tile)
      pack_patch(t, (char *)dst + ((l - l0) * (k1 - k0) + (k - k0) * tile) * t->p->es, l, l1, k, fc_min(k1, k + step));
}

/* Are the channels of a pixel contiguous, and all pixels at the same distance? */
static int pixels_in_row(const fc_conv_plan *p, const int64_t rows[3], const int64_t strides[5]) {
  return strides[1] == 1 && rows[0] * rows[1] == 1 && (p->d.n == 1 || strides[0] == rows[2] * strides[4]);
}

/* Then few channels are read where they are, so few pixels at a time that those stay in the caches for all tiles. Rows of x
 * must not be so far apart that a panel finds room in few sets of L1. */
enum { PIXELS_IN_PLACE = 96, BYTES_IN_PLACE = 2048, ROW_IN_PLACE = 1024 };

static int in_place(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  return own(p)->pointwise && pixels_in_row(p, own(p)->x_rows, d->x_stride) && pixels_in_row(p, own(p)->dy_rows, d->y_stride) &&
         fc_whole_vectors(p->kn, d->icg) && d->x_stride[4] * p->es < ROW_IN_PLACE &&
         (d->x_stride[4] + d->y_stride[4]) * p->es <= BYTES_IN_PLACE;
}

/* Are a channel's pixels contiguous, image by image, and enough of them for a run? */
static int planes(const int64_t rows[3], const int64_t strides[5]) {
  return strides[4] == 1 && rows[0] * rows[1] == 1 && rows[2] >= 96;
}

/* The product's rows are output channels or, transposed, input channels: where their pixels are contiguous they are read where
 * they are, so that only the fewer channels are packed. A block of the reduction then is a part of an image, or whole ones:
 * the end of a run costs each tile about 30 cycles. */
enum { BLOCK_OF_ROWS = 800 };

static int in_rows(const fc_conv_plan *p) { return own(p)->transposed || planes(own(p)->dy_rows, p->d.y_stride); }

/* Images that the product takes at a time. */
static int64_t images(const fc_conv_plan *p) {
  const int64_t n = p->d.n, most = fc_max(1, BLOCK_OF_ROWS / fc_product3(p->d.y_size));
  return in_rows(p) ? fc_div_up(n, fc_div_up(n, most)) : n;
}

static fc_product weight_product(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int64_t k = images(p) * fc_product3(d->y_size), n = d->icg * fc_product3(d->ker);
  return (fc_product){.kn = p->kn,
                      .es = p->es,
                      .m = own(p)->transposed ? n : d->ocg,
                      .n = own(p)->transposed ? d->ocg : n,
                      .k = k,
                      .kstep = in_rows(p)    ? fc_div_up(k, fc_div_up(k, BLOCK_OF_ROWS))
                               : in_place(p) ? PIXELS_IN_PLACE
                                             : fc_product_kstep(p->kn, k)};
}

/* Sums of one tap are the weights; those of more, or transposed, are moved to their places in the end. */
static int moved(const fc_conv_plan *p) { return own(p)->transposed || fc_product3(p->d.ker) > 1; }

/* Bytes: addresses of rows; sums; what the product or the move takes. */
typedef struct weight_sizes {
  int64_t rows, sums, product;
} weight_sizes;

static weight_sizes sizes(const fc_conv_call *j, const fc_product *prod) {
  const fc_conv_plan *p = j->p;
  const int64_t table = j->piece_n * (int64_t)(sizeof(int64_t) + sizeof(int32_t));
  return (weight_sizes){in_rows(p) ? fc_round_up(images(p) * j->piece_m * (int64_t)sizeof(void *), FC_ALIGN) : 0,
                        moved(p) ? fc_round_up(j->piece_m * j->piece_n * p->es, FC_ALIGN) : 0,
                        fc_round_up(fc_max(table, fc_product_scratch(prod, j->piece_n)), FC_ALIGN)};
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const fc_product prod = weight_product(p);
  fc_partition(prod.m, prod.n, p->kn->mr, p->kn->nr, 8 * p->kn->mc, 2 * FC_PIECE_LANES / p->kn->nr * p->kn->nr, p->d.groups,
               nthreads, FC_ONE_PIECE, &j->piece_m, &j->piece_n);
  j->pieces_m = fc_div_up(prod.m, j->piece_m);
  j->pieces_n = fc_div_up(prod.n, j->piece_n);
  const weight_sizes s = sizes(j, &prod);
  j->scratch = s.rows + s.sums + s.product;
  return p->d.groups * j->pieces_m * j->pieces_n;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  fc_product prod = weight_product(p);
  const int64_t es = p->es, per = j->pieces_m * j->pieces_n, g = index / per, step = images(p), pixels = fc_product3(d->y_size);
  const int64_t m0 = index % per % j->pieces_m * j->piece_m, m1 = fc_min(prod.m, m0 + j->piece_m);
  const int64_t n0 = index % per / j->pieces_m * j->piece_n, n1 = fc_min(prod.n, n0 + j->piece_n);
  const weight_sizes s = sizes(j, &prod);
  char *at = j->workspace + worker * j->scratch, *sums = at + s.rows, *scratch = sums + s.sums;
  char *result = j->result + (g * d->ocg * d->w_stride[0] +
                              (own(p)->transposed ? n0 * d->w_stride[0] + m0 * d->w_stride[1] : m0 * d->w_stride[0])) *
                                 es;
  const int64_t ld = j->piece_n;
  const fc_view out = moved(p) ? (fc_view){.p = sums, .rs = ld, .cs = 1}
                               : (fc_view){.p = result + n0 * d->w_stride[1] * es, .rs = d->w_stride[0], .cs = d->w_stride[1]},
                none = {0};
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  for (int64_t i = 0; i < d->n; i += step) {
    const int64_t n = fc_min(step, d->n - i);
    weight_work t = {p, j->first + (i * d->x_stride[0] + g * d->icg * d->x_stride[1]) * es,
                     j->second + (i * d->y_stride[0] + g * d->ocg * d->y_stride[1]) * es};
    const fc_pack_fn pack_columns = own(p)->transposed ? pack_dy : own(p)->pointwise ? pack_x : pack_patches;
    fc_operand a = {.pack = pack_dy, .work = &t, .in_place = in_place(p)};
    fc_operand b = {.pack = pack_columns, .work = &t, .in_place = a.in_place};
    const fc_rows rows = {(const void **)at, pixels, m1 - m0};
    if (in_rows(p)) {
      const int64_t *strides = own(p)->transposed ? d->x_stride : d->y_stride;
      const void **row = (const void **)at;
      for (int64_t x = 0; x < n; x++)
        for (int64_t m = m0; m < m1; m++) *row++ = (own(p)->transposed ? t.x : t.dy) + (x * strides[0] + m * strides[1]) * es;
      a.rows = &rows;
    }
    if (pixels_in_row(p, own(p)->dy_rows, d->y_stride)) {
      a.at = t.dy;
      a.step = d->y_stride[4];
    }
    if (own(p)->pointwise && pixels_in_row(p, own(p)->x_rows, d->x_stride)) {
      b.at = t.x;
      b.step = d->x_stride[4];
    }
    prod.k = n * pixels;
    prod.sum = i > 0;
    fc_product_piece(&prod, a, b, m0, m1, n0, n1, &out, &none, &plain, scratch);
  }
  if (!moved(p)) return;
  fc_block to = {.m = m1 - m0,
                 .n = n1 - n0,
                 .ep = &plain,
                 .first = 1,
                 .last = 1,
                 .out = {.p = result, .rs = d->w_stride[own(p)->transposed], .cs = d->w_stride[0]}};
  if (!own(p)->transposed) {
    int64_t *coff = (int64_t *)scratch;
    int32_t *crun = (int32_t *)(coff + ld);
    for (int64_t l = n0; l < n1; l++) coff[l - n0] = l % d->icg * d->w_stride[1] + fc_tap_stride(d, l / d->icg);
    fc_runs(coff, crun, n1 - n0);
    to.out.coff = coff;
    to.out.crun = crun;
  }
  p->kn->write(sums, ld, &to);
}

static void prepare(fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  merge_rows(d->y_size, d->y_stride, own(p)->dy_rows);
  own(p)->pointwise = 1;
  for (int i = 0; i < 3; i++)
    own(p)->pointwise &= d->ker[i] == 1 && d->stride[i] == 1 && d->x_size[i] == d->y_size[i] && d->pad[i] == 0;
  merge_rows(d->y_size, d->x_stride, own(p)->x_rows);
  own(p)->transposed = own(p)->pointwise && planes(own(p)->x_rows, d->x_stride) && d->icg > d->ocg;
}

const fc_algorithm fc_conv_weight_pixels = {
    .name = "implicit_gemm_pixels",
    .state = sizeof(fields),
    .directions = FC_OF_WEIGHTS,
    .prepare = prepare,
    .pieces = pieces,
    .run = piece,
};
