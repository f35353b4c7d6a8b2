/* Layers of stride 1 whose kernel is long along one axis alone (1x3, 7x1, 3x1x1, conv1d), or along h and w and
 * larger than 3x3 (5x5, 7x7), by one-dimensional Winograd: 6, 8 or 10 products of transformed patches and
 * filters make 7, 9 or 11 less taps results. A piece is a number of tiles, or a rectangle of them where kernels have rows;
 * backward-input is the same with the filters flipped. */
#include "conv/winograd_line.h"

/* Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters. */
#define FC_LINE_BYTES (1024 * 1024)

/* Tiles of a line in a rectangle, at most. */
#define FC_LINE_WIDE 16

/* Lines that a piece may read more than it writes: where the rows of a kernel lie further apart, most of what it transforms would
 * be for a few of them. */
#define FC_LINE_REACH 64

/* ---- what all directions share ---- */

const char *fc_line_refuse(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int axis = fc_line_axis(d), points = fc_line_points(p);
  if (axis < 0 || d->ker[axis] > points - 1) return "";
  if (fc_product3(d->ker) > FC_FILTER_ROWS) return "its transform takes kernels of at most 128 taps"; /* see fc_filter_memory */
  for (int i = 0; i < 3; i++) {
    if (i == axis) continue;
    if (d->stride[i] != 1 || (d->ker[i] == 1 && (d->pad[i] != 0 || d->x_size[i] != d->y_size[i]))) return "";
  }
  if (d->stride[axis] != 1 || d->dil[axis] != 1) return "stride or dilation is not 1";
  if (d->strict) return "strict precision takes direct algorithms only";
  if (axis == 2 && d->direction != FC_BWD_WEIGHT && (d->ker[1] - 1) * d->dil[1] > FC_LINE_REACH)
    return "the rows of the kernel lie too far apart";
  return 0;
}

/* What a channel costs, in products: those of all tiles, and as much as its filters' transform takes. The most points
 * cost most rounding. */
static double cost(const fc_conv_plan *p, int points) {
  const int axis = fc_line_axis(&p->d);
  if (axis < 0 || points <= p->d.ker[axis]) return 1e300;
  const int filters = p->d.packed ? FC_CHOOSE_LINE_FILTERS_PACKED : FC_CHOOSE_LINE_FILTERS;
  return points * (double)(fc_line_tiles(p, points, p->dst_size).all + filters) *
         (points == FC_LINE_POINTS ? FC_CHOOSE_LINE_POINTS_COST / 100.0 : 1);
}

const char *fc_line_slow(const fc_conv_plan *p) {
  /* Direct ones that read channels where they are have no patches to make. */
  const int weight = p->d.direction == FC_BWD_WEIGHT, axis = fc_line_axis(&p->d), points = fc_line_points(p);
  const int64_t taps = fc_product3(p->d.ker), along = axis < 0 ? 1 : p->d.ker[axis];
  const int64_t last = (weight ? FC_CHOOSE_LINE_CHANNELS_TAPS_WEIGHT : FC_CHOOSE_LINE_CHANNELS_TAPS) / taps;
  const int64_t channels = p->dst_stride[1] == 1 ? fc_max(FC_CHOOSE_LINE_CHANNELS, last) : FC_CHOOSE_LINE_CHANNELS;
  const int64_t results = weight        ? FC_CHOOSE_LINE_RESULTS_TAPS_WEIGHT / (along * along)
                          : p->d.packed ? FC_CHOOSE_LINE_RESULTS_TAPS_PACKED / taps
                                        : FC_CHOOSE_LINE_RESULTS_TAPS / taps;
  if (p->d.ker[1] == 3 && p->d.ker[2] == 3) return "two-dimensional Winograd takes fewer products";
  if (p->src_channels < channels || p->dst_channels < channels) return "too few channels to pay for the transforms";
  if (p->d.n * fc_product3(p->dst_size) < results) return "too few results to pay for transforming the filters";
  if (axis >= 0 && points * fc_line_tiles(p, points, p->dst_size).all >= along * p->d.n * fc_product3(p->dst_size))
    return "its tiles take no fewer products";
  for (int i = 6; i <= FC_LINE_POINTS; i += 2)
    if (cost(p, i) < cost(p, points) || (i < points && cost(p, i) == cost(p, points)))
      return "another number of points takes fewer products";
  return 0;
}

/* The coefficients of the product of (y - p^2), p being all of the pairs but one. */
static void polynomial(const double *pair, int n, int but, double coefficient[FC_LINE_POINTS]) {
  int degree = 0;
  coefficient[0] = 1;
  for (int i = 0; i < n; i++) {
    if (i == but) continue;
    const double root = pair[i] * pair[i];
    coefficient[degree + 1] = coefficient[degree];
    for (int k = degree; k > 0; k--) coefficient[k] = coefficient[k - 1] - root * coefficient[k];
    coefficient[0] *= -root;
    degree++;
  }
}

/* Patches: the polynomials that have all points but one as roots. Results and filters: powers of the points, those for
 * filters divided by the values of the polynomials there. Pairs and their reciprocals keep the error small: relative to the
 * result, 0.5, 0.7 and 1.6 millionths in float32 at 64 channels. */
void fc_line_prepare(fc_conv_plan *p) {
  const int points = fc_line_points(p);
  static const double pairs[3][4] = {{0.70710678118654752440, 1.41421356237309504880}, {0.5, 1, 2}, {0.4, 0.8, 1.25, 2.5}};
  const int n = points / 2 - 1, last = points - 1, taps = (int)p->d.ker[fc_line_axis(&p->d)], step = points + 1 - taps;
  const double *pair = pairs[n - 2];
  double m[3][FC_LINE_POINTS][FC_LINE_POINTS] = {{{0}}}, c[FC_LINE_POINTS];
  polynomial(pair, n, -1, c);
  for (int k = 0; k <= n; k++) {
    m[FC_LINE_PATCHES][0][2 * k] = c[k] / c[0];
    m[FC_LINE_PATCHES][last][2 * k + 1] = c[k];
  }
  m[FC_LINE_RESULTS][0][0] = m[FC_LINE_RESULTS][last][step - 1] = 1;
  m[FC_LINE_FILTERS][0][0] = m[FC_LINE_FILTERS][last][taps - 1] = 1;
  for (int i = 0; i < n; i++) {
    const int row = 1 + 2 * i;
    double value = 0, power = 1;
    polynomial(pair, n, i, c);
    for (int k = 0; k < n; k++) {
      m[FC_LINE_PATCHES][row][2 * k + 1] = pair[i] * c[k];
      m[FC_LINE_PATCHES][row][2 * k + 2] = c[k];
      value += 2 * pair[i] * pair[i] * power * c[k];
      power *= pair[i] * pair[i];
    }
    power = 1;
    for (int k = 0; k < points; k++, power *= pair[i]) {
      if (k < step) m[FC_LINE_RESULTS][row][k] = power;
      if (k < taps) m[FC_LINE_FILTERS][row][k] = power / value;
    }
  }
  const double *from = m[0][0];
  for (size_t i = 0; i < sizeof m / sizeof *from; i++)
    if (p->es == 4)
      ((float *)p->state)[i] = (float)from[i];
    else
      ((double *)p->state)[i] = from[i];
}

const void *fc_line_matrix(const fc_conv_plan *p, int which) {
  return (const char *)p->state + which * FC_LINE_POINTS * FC_LINE_POINTS * p->es;
}

fc_strip fc_line_read(const fc_line_grid *g, const fc_line_run *r, int64_t low, int count, int64_t columns, const int64_t size[3],
                      const int64_t strides[5]) {
  const int64_t at = g->axis == 2 ? g->step * r->column + low : g->step * r->row + low;
  return (fc_strip){.columns = columns,
                    .rows = g->axis == 2 ? 1 : count,
                    .count = g->axis == 2 ? g->step * (r->n - 1) + count : r->n,
                    .high = g->axis == 2 ? 1 : size[g->axis],
                    .wide = size[2],
                    .top = g->axis == 2 ? 0 : at,
                    .left = g->axis == 2 ? at : r->column,
                    .channel = strides[1],
                    .row = strides[2 + g->axis],
                    .pixel = strides[4]};
}

/* ---- forward and backward-input ---- */

typedef struct sizes {
  int64_t sc, dc;             /* channels, whole vectors */
  fc_line_grid grid;
  int64_t high, wide; /* tiles of a piece: lines and tiles of a line; 1 and any of all lines' if the kernel is one row */
  int64_t reach; /* lines that a piece reads more than it writes */
  int64_t columns; /* vectors of a strip's rows */
  int64_t v, m, strip, tables, total;
} sizes;

/* The rows of the kernel: those along h if the axis is w, else one, as along w. */
static const fc_axis *rows_of(const fc_conv_plan *p) { return &p->phases[0].ax[fc_line_axis(&p->d) == 2 ? 1 : 2]; }

static int64_t least(const fc_axis *a) { return fc_min(a->off[0], a->off[a->ntap - 1]); }

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  const int points = fc_line_points(p);
  const fc_axis *rows = rows_of(p);
  sizes s = {.sc = fc_round_up(p->src_channels, kn->vl),
             .dc = fc_round_up(p->dst_channels, kn->nr),
             .grid = fc_line_tiles(p, points, p->dst_size)};
  int64_t most = FC_LINE_BYTES / (points * (s.sc + s.dc) * p->es) / kn->mr * kn->mr;
  most = fc_max(most, fc_round_up(36, kn->mr));
  const int64_t share = fc_div_up(s.grid.all * p->d.groups, nthreads > 1 ? 3 * nthreads : 1);
  s.high = 1;
  s.wide = fc_max(kn->mr, fc_min(most, fc_round_up(share, kn->mr)));
  s.reach = llabs(rows->off[rows->ntap - 1] - rows->off[0]);
  if (rows->ntap > 1) {
    s.high = fc_min(p->dst_size[1], fc_max(1, s.wide / fc_min(s.grid.wide, FC_LINE_WIDE)));
    s.wide = fc_min(s.grid.wide, FC_LINE_WIDE);
  }
  const int64_t tiles = s.high * s.wide;
  s.columns = fc_line_columns(&s.grid, s.wide);
  s.v = points * fc_wino_stride((s.high + s.reach) * s.wide * s.sc, p->es) * p->es;
  s.m = points * fc_wino_stride(tiles * s.dc, p->es) * p->es;
  s.strip = fc_round_up(fc_line_strip(&s.grid, s.wide) * kn->vl * p->es, FC_ALIGN);
  s.tables = fc_round_up(rows->ntap * tiles * (int64_t)sizeof(void *), FC_ALIGN);
  s.total = s.v + s.m + s.strip + s.tables;
  return s;
}

typedef struct filter_call {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} filter_call;

/* Elements of a point's filters. */
static int64_t point_elements(const fc_conv_plan *p) {
  return fc_wino_stride(fc_packed_elements(p->dst_channels, p->kn->nr, p->phases[0].k / p->d.ker[fc_line_axis(&p->d)]), p->es);
}

static int64_t packed_elements(const fc_conv_plan *p) { return p->d.groups * fc_line_points(p) * point_elements(p); }

/* Some source channels' filters, for all lanes. The reduction goes over the rows of the kernel, then channels. */
static void filter_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const filter_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const int nr = kn->nr, points = fc_line_points(p), axis = fc_line_axis(&p->d), taps = (int)p->d.ker[axis];
  const int64_t es = p->es, step = fc_filter_step(p), parts = fc_div_up(p->src_channels, step), whole = fc_product3(p->d.ker);
  const int64_t g = index / parts, c0 = index % parts * step, c1 = fc_min(p->src_channels, c0 + step);
  const int64_t all = p->phases[0].k / taps, kstep = fc_product_kstep(kn, all);
  const fc_axis *a = &p->phases[0].ax[axis], *rows = rows_of(p);
  const int flipped = a->off[0] > a->off[1];
  fc_filter_memory filters;
  void *part = fc_range_open(p, fc_range_packed(p, j->packed), index);
  for (int64_t l = 0; l < p->dst_channels; l += nr) {
    fc_filter_rows(p, j->w + g * p->d.ocg * p->d.w_stride[0] * es, nr, l, c0, c1, &filters);
    fc_range_filters(p, &filters, c1 - c0, part);
    for (int y = 0; y < rows->ntap; y++)
      for (int64_t c = c0, run; c < c1; c += run) {
        const int64_t k = y * p->src_channels + c, k0 = k / kstep * kstep, k1 = fc_min(all, k0 + kstep);
        run = fc_min(c1 - c, k1 - k);
        const int64_t at = g * points * point_elements(p) + fc_packed_at(p->dst_channels, nr, l, k0, k1 - k0) + (k - k0) * nr;
        const int64_t first = ((c - c0) * whole + rows->tap[y] * taps + (flipped ? taps - 1 : 0)) * nr;
        for (int64_t v = 0; v < nr; v += kn->vl) {
          const fc_line t = {.from = (char *)&filters + (first + v) * es,
                             .matrix = fc_line_matrix(p, FC_LINE_FILTERS),
                             .to = j->packed + (at + v) * es,
                             .from_element = flipped ? -nr : nr,
                             .from_tile = whole * nr,
                             .to_element = point_elements(p),
                             .to_tile = nr,
                             .tiles = run,
                             .points = points,
                             .count = taps};
          kn->line_to(&t);
        }
      }
  }
  fc_range_close(p, part);
}

static int pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  filter_call j = {p, w, packed};
  return fc_parallel_for(fc_conv_packers(p, nthreads), p->d.groups * fc_div_up(p->src_channels, fc_filter_step(p)), filter_piece,
                         &j);
}

/* A run's patches, VL channels from one of a group's on, to v: zeros if its line is none of the image's. */
static void patches(const fc_conv_call *j, const sizes *s, const fc_line_run *r, int64_t group, int64_t channel, char *v,
                    int64_t apart, char *strip) {
  const fc_conv_plan *p = j->p;
  const int inside = r->line[1] >= 0 && r->line[1] < p->src_size[1];
  const int64_t vl = p->kn->vl,
                at = inside ? fc_line_at(&s->grid, r, p->src_stride) + (group * p->src_channels + channel) * p->src_stride[1] : 0;
  fc_strip f = fc_line_read(&s->grid, r, least(&p->phases[0].ax[s->grid.axis]), s->grid.points, s->columns, p->src_size,
                            p->src_stride);
  f.strip = strip;
  f.src = j->first + at * p->es;
  f.channels = inside ? (int)fc_min(vl, p->src_channels - channel) : 0;
  p->kn->wino_strip(&f);
  const fc_line t = {.from = strip,
                     .matrix = fc_line_matrix(p, FC_LINE_PATCHES),
                     .to = v,
                     .from_element = fc_line_element(&s->grid, s->columns) * vl,
                     .from_tile = fc_line_pitch(&s->grid) * vl,
                     .to_element = apart,
                     .to_tile = s->sc,
                     .tiles = r->n,
                     .points = s->grid.points,
                     .count = s->grid.points};
  p->kn->line_to(&t);
}

/* A run's results likewise, from m to the image, with bias, residual and activation. */
static void results(const fc_conv_call *j, const sizes *s, const fc_line_run *r, int64_t group, int64_t channel, const char *m,
                    int64_t apart, char *strip) {
  const fc_conv_plan *p = j->p;
  const fc_line_grid *g = &s->grid;
  const int64_t es = p->es, vl = p->kn->vl, c = group * p->dst_channels + channel, *ds = p->dst_stride, *as = p->d.add_stride;
  const fc_line t = {.from = m,
                     .matrix = fc_line_matrix(p, FC_LINE_RESULTS),
                     .to = strip,
                     .from_element = apart,
                     .from_tile = s->dc,
                     .to_element = fc_line_element(g, s->columns) * vl,
                     .to_tile = fc_line_pitch(g) * vl,
                     .tiles = r->n,
                     .points = g->points,
                     .count = (int)g->step};
  p->kn->line_from(&t);
  const fc_epilogue ep = {1, 1, 0, j->bias ? j->bias + c * es : 0, p->d.act.kind, p->d.act.p0, p->d.act.p1};
  /* Along w one row of pixels; else a row for each position of a tile. */
  const int64_t first = g->step * (g->axis == 2 ? r->column : r->row), left = p->dst_size[g->axis] - first;
  const int64_t rows = g->axis == 2 ? 1 : fc_min(g->step, left), pixels = g->axis == 2 ? fc_min(g->step * r->n, left) : r->n;
  for (int64_t i = 0; i < rows; i++) {
    const int64_t x = g->axis == 2 ? first : r->column, y = first + i;
    fc_block b = {.m = pixels, .n = fc_min(vl, p->dst_channels - channel), .ep = &ep, .first = 1, .last = 1};
    const int64_t to = fc_line_at(g, r, ds) + c * ds[1] + x * ds[4] + (g->axis == 2 ? 0 : y * ds[2 + g->axis]);
    b.out = (fc_view){.p = j->result + to * es, .rs = ds[4], .cs = ds[1]};
    if (j->add) {
      const int64_t from = fc_line_at(g, r, as) + c * as[1] + x * as[4] + (g->axis == 2 ? 0 : y * as[2 + g->axis]);
      b.add = (fc_view){.p = (char *)j->add + from * es, .rs = as[4], .cs = as[1]};
    }
    p->kn->write(strip + i * s->columns * vl * es, vl, &b);
  }
}

/* Some tiles: count from the first one on, or, where kernels have rows, those of a rectangle: so many lines of wide tiles. */
typedef struct region {
  int64_t first, count;
  int64_t image, depth, line, column, wide;
} region;

/* The run of a region's tiles that starts with number i. */
static fc_line_run run_at(const sizes *s, const region *q, int64_t i) {
  if (!q->wide) return fc_line_run_at(&s->grid, q->first + i, q->first + q->count);
  return (fc_line_run){.image = q->image,
                       .line = {q->depth, q->line + i / q->wide},
                       .column = q->column + i % q->wide,
                       .n = q->wide - i % q->wide};
}

static int64_t regions(const sizes *s, const fc_conv_plan *p) {
  if (rows_of(p)->ntap == 1) return fc_div_up(s->grid.all, s->wide);
  return p->d.n * p->dst_size[0] * fc_div_up(p->dst_size[1], s->high) * fc_div_up(s->grid.wide, s->wide);
}

static region region_at(const sizes *s, const fc_conv_plan *p, int64_t i) {
  if (rows_of(p)->ntap == 1) return (region){.first = i * s->wide, .count = fc_min(s->grid.all - i * s->wide, s->wide)};
  const int64_t across = fc_div_up(s->grid.wide, s->wide), down = fc_div_up(p->dst_size[1], s->high), plane = i / across / down;
  region q = {.image = plane / p->dst_size[0],
              .depth = plane % p->dst_size[0],
              .line = i / across % down * s->high,
              .column = i % across * s->wide};
  q.wide = fc_min(s->wide, s->grid.wide - q.column);
  q.count = q.wide * fc_min(s->high, p->dst_size[1] - q.line);
  return q;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, j->threads);
  const fc_axis *taps = rows_of(p);
  const int64_t es = p->es, per = regions(&s, p), g = index / per;
  const region to = region_at(&s, p, index % per);
  region from = to;
  from.line += least(taps);
  from.count += s.reach * to.wide;
  char *v = j->workspace + worker * j->scratch, *m = v + s.v, *strip = m + s.m;
  const void **at = (const void **)(strip + s.strip);
  const int64_t n = to.count, patch = fc_wino_stride(from.count * s.sc, es), result = fc_wino_stride(n * s.dc, es); /* a point */
  fc_line_run r;
  for (int64_t i = 0; i < from.count; i += r.n) {
    r = run_at(&s, &from, i);
    for (int64_t c = 0; c < p->src_channels; c += kn->vl) patches(j, &s, &r, g, c, v + (i * s.sc + c) * es, patch, strip);
  }
  const int64_t k = taps->ntap * p->src_channels;
  const fc_product prod = {kn, es, n, fc_round_up(p->dst_channels, kn->vl), k, fc_product_kstep(kn, k), 0};
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_view none = {0};
  for (int64_t f = 0; f < s.grid.points; f++) {
    for (int y = 0; y < taps->ntap; y++)
      for (int64_t i = 0; i < n; i++) at[y * n + i] = v + (f * patch + (i + (taps->off[y] - least(taps)) * to.wide) * s.sc) * es;
    const fc_rows rows = {at, p->src_channels, n};
    const fc_view out = {.p = m + f * result * es, .rs = s.dc, .cs = 1};
    const char *filters = j->packed + (g * s.grid.points + f) * point_elements(p) * es;
    fc_product_piece(&prod, (fc_operand){.rows = &rows}, (fc_operand){.packed = filters}, 0, n, 0, prod.n, &out, &none, &plain,
                     strip);
  }
  for (int64_t i = 0; i < n; i += r.n) {
    r = run_at(&s, &to, i);
    for (int64_t c = 0; c < p->dst_channels; c += kn->vl) results(j, &s, &r, g, c, m + (i * s.dc + c) * es, result, strip);
  }
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const sizes s = size(j->p, nthreads);
  j->threads = nthreads;
  j->scratch = s.total;
  return j->p->d.groups * regions(&s, j->p);
}

FC_LINE_ALGORITHMS(fc_conv_winograd_line, .directions = FC_OF_IMAGES, .refuse = fc_line_refuse, .packed = packed_elements,
                   .pack = pack, .pieces = pieces, .run = piece);
