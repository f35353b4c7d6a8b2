/* How a call of a pooling is cut into tiles: what lanes are, and how many units, rows and columns a piece has. */
#include "pool/plan.h"

/* Elements on the larger side of a piece. */
#define FC_PIECE_POOL (32 * 1024)

/* Bytes of a row buffer, and of the channels of one position, where they are the lanes. */
#define FC_POOL_SPAN (16 * 1024)
#define FC_POOL_LANES 1024

/* Bytes of rows that are reduced at once: with more of them the source does not stay in the first cache. */
#define FC_POOL_ROWS 1024

/* Bytes of a strip, if planes are not larger than that themselves, and the most vectors of it. */
#define FC_POOL_STRIP (24 * 1024)
#define FC_POOL_STRIP_VECTORS 8

/* Positions of planes that are pooled in strips: rows of larger ones are long enough for vectors. Gradients scatter there, or
 * take every second column, so strips are better as long as they stay in caches. */
#define FC_POOL_SMALL 256
#define FC_POOL_LARGE (64 * 1024)

/* Bytes of a box of source positions. */
#define FC_POOL_BOX_BYTES (192 * 1024)

/* The source columns that columns col0 to col1 of the target need, before the image too where windows are even. */
static int64_t span_of(const fc_pool_plan *p, const fc_pool_cut *c, int64_t col0, int64_t col1) {
  const fc_pool_axis *x = &c->axis[2];
  const fc_pool_even *e = &p->even[2];
  if (c->form == FC_POOL_POSITIONS || c->form == FC_POOL_PLANES || c->form == FC_POOL_SPREAD) return 0;
  if (c->form == FC_POOL_EVEN_COLUMNS) return (col1 - col0 - 1) * e->step + (e->taps - 1) * x->dil + 1;
  int64_t first, end;
  fc_pool_reach(x, col0, col1, &first, &end);
  return end - first;
}

/* Whether reducing rows first, a step of them for each target row, saves so many loads that it pays for the buffer. */
static int large_windows(const fc_pool_plan *p) {
  const int64_t step = fc_max(1, fc_div_up(p->axis[2].source, p->axis[2].target));
  return p->most_rows * p->most_taps > fc_min(4096, 2 * ((p->most_rows + 1) * step + p->most_taps));
}

/* A gradient of maxima of x whose channels lie next to each other: every piece makes some rows of dx, out of all windows
 * that reach them. Neighbours so look at some windows twice: rows are cut only where units are too few for the threads. */
static fc_pool_cut cut_gradient(const fc_pool_plan *p, int nthreads) {
  const int64_t rows = p->d.x_size[0] * p->d.x_size[1], row = p->d.x_size[2] * p->d.c;
  const int few = p->d.n < 2 * nthreads && nthreads > 1, flat = p->d.x_size[0] == 1;
  fc_pool_cut c = {
      .gradient = p->kn->pool_gradient, .lanes = few && !flat ? fc_min(p->d.c, FC_POOL_LANES / p->es) : p->d.c, .rows = rows};
  memcpy(c.axis, p->axis, sizeof c.axis);
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.units = p->d.n * c.blocks;
  c.units_per_piece = fc_max(1, FC_PIECE_POOL / (rows * row));
  c.rows_per_piece = few && flat ? fc_round_up(fc_max(8 * p->most_rows, FC_PIECE_POOL / row), p->most_rows) : rows;
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(rows, c.rows_per_piece);
  c.columns = c.axis[2].target;
  c.scratch = fc_round_up(5 * FC_ALIGN + 16 * p->most_rows * (1 + p->most_taps), FC_ALIGN);
  return c;
}

/* A gradient of maxima of which the positions are given: a piece makes some rows of dx out of all windows that reach them. */
static fc_pool_cut cut_gather(const fc_pool_plan *p, int nthreads) {
  const int64_t rows = p->d.x_size[1], row = p->d.x_size[2] * p->d.c;
  fc_pool_cut c = {.gradient = p->kn->pool_gather, .lanes = p->d.c, .blocks = 1, .units = p->d.n, .rows = rows};
  memcpy(c.axis, p->axis, sizeof c.axis);
  c.columns = p->d.y_size[2];
  c.most_rows = p->most_around;
  c.span = c.most_rows * c.columns * c.lanes + p->kn->vl;
  c.units_per_piece = fc_max(1, FC_PIECE_POOL / (rows * row));
  c.rows_per_piece = c.units < 2 * nthreads && nthreads > 1 ? fc_max(8 * p->most_around, FC_PIECE_POOL / row) : rows;
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(rows, c.rows_per_piece);
  c.scratch = fc_round_up(2 * FC_ALIGN + 2 * c.span * p->es, FC_ALIGN);
  return c;
}

/* Whether sliding windows over all source positions, which cost the same for any size, are less work than all windows' rows
 * and columns: maxima of 7 x 7, sums of 9 x 9 (measured; a sum that is not slid is one instruction a tap, a maximum three). */
static int boxes_pay(const fc_pool_plan *p) {
  int64_t steps = 4, sources = 1, targets = 1;
  for (int i = 0; i < 3; i++) {
    if (p->even[i].step == 0 || p->axis[i].dil != 1) return 0;
    if (p->even[i].taps > 1) steps += p->op == FC_POOL_MAXIMUM ? 4 : 6;
    sources *= p->axis[i].source;
    targets *= p->axis[i].target;
  }
  return p->op != FC_POOL_ARGMAX && (p->most_rows + p->most_taps) * targets > steps * sources;
}

/* Extent in a box of n target positions. */
static int64_t extent(const fc_pool_even *e, int64_t n) { return (n - 1) * e->step + e->taps; }

static fc_pool_cut cut_boxes(const fc_pool_plan *p, int channels) {
  fc_pool_cut c = {.form = FC_POOL_BOX, .lanes = 1};
  memcpy(c.axis, p->axis, sizeof c.axis);
  const fc_pool_even *e = p->even;
  const int64_t depths = c.axis[0].target, height = c.axis[1].target, most = FC_POOL_BOX_BYTES / p->es;
  const int64_t depth = extent(&e[0], depths), vl = p->kn->vl;
  if (channels) {
    const int64_t whole = depth * extent(&e[1], height) * extent(&e[2], c.axis[2].target);
    c.lanes = fc_min(p->d.c, fc_max(2, most / (whole * vl)) * vl);
  }
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.units = p->d.n * c.blocks;
  c.rows = depths * height;
  /* Rows and columns are halved as long as they are more than what neighbours share. */
  int64_t rows = height;
  c.columns = c.axis[2].target;
  while (depth * extent(&e[1], rows) * extent(&e[2], c.columns) * c.lanes > most) {
    if (c.columns * e[2].step > 2 * e[2].taps && c.columns * c.lanes > 8 * vl && c.columns >= rows)
      c.columns = fc_div_up(c.columns, 2);
    else if (depths == 1 && rows * e[1].step > 2 * e[1].taps)
      rows = fc_div_up(rows, 2);
    else
      break;
  }
  c.rows_per_piece = depths == 1 ? rows : c.rows;
  const int64_t row = fc_round_up(extent(&e[2], c.columns) * fc_pool_pitch(c.lanes, vl), vl);
  c.span = depth * extent(&e[1], rows) * row;
  c.units_per_piece = rows < height ? 1 : fc_max(1, FC_PIECE_POOL / c.span);
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(c.rows, c.rows_per_piece);
  const int64_t longest = fc_max(e[0].taps, fc_max(e[1].taps, e[2].taps));
  c.scratch = fc_round_up(4 * FC_ALIGN + (c.span + row * vl + 4 * longest * vl) * p->es, FC_ALIGN);
  return c;
}

fc_pool_plan fc_pool_strip_plan(const fc_pool_plan *p, int64_t lanes) {
  const int64_t *in = p->d.x_size, *out = p->d.y_size;
  const int64_t x[] = {0, 1, in[1] * in[2] * lanes, in[2] * lanes, lanes},
                y[] = {0, 1, out[1] * out[2] * lanes, out[2] * lanes, lanes};
  fc_pool_plan strip = *p;
  memcpy(strip.d.x_stride, x, sizeof x);
  memcpy(strip.d.dx_stride, x, sizeof x);
  memcpy(strip.d.y_stride, y, sizeof y);
  memcpy(strip.d.indices_stride, y, sizeof y);
  strip.d.n = 1;
  strip.d.c = lanes;
  return strip;
}

/* Whether channels' planes are faster turned into rows of channels. */
static int strips_pay(const fc_pool_plan *p) {
  const fc_pool_desc *d = &p->d;
  const int backward = d->direction == FC_BWD_INPUT, max = d->kind == FC_MAX;
  if (backward && !max && p->even[1].step && p->even[2].step) return 0; /* sums of windows a step of 1 apart, as they are */
  if (d->c < 2 || fc_round_up(d->c, p->kn->vl) > 2 * d->c || p->plane || p->spread || p->d.y_stride[4] != 1 ||
      p->d.y_stride[1] == 1)
    return 0;
  if (backward ? p->d.dx_stride[4] != 1 || p->d.dx_stride[1] == 1 || (max && d->indices)
               : d->indices && p->d.indices_stride[1] == 1)
    return 0;
  if ((!backward || (max && !d->indices)) && (p->d.x_stride[4] != 1 || p->d.x_stride[1] == 1)) return 0;
  return fc_pool_positions(d->x_size) <= (backward || boxes_pay(p) ? FC_POOL_LARGE : FC_POOL_SMALL);
}

/* Channels come next to each other in strips: a piece is some channels of an image. */
static fc_pool_cut cut_strips(const fc_pool_plan *p) {
  const int64_t vl = p->kn->vl, es = p->es, x = fc_pool_positions(p->d.x_size), y = fc_pool_positions(p->d.y_size);
  fc_pool_cut c = {.strips = 1, .rows = 1, .units_per_piece = 1, .rows_per_piece = 1};
  c.lanes = fc_min(fc_round_up(p->d.c, vl), vl * fc_max(1, fc_min(FC_POOL_STRIP_VECTORS, FC_POOL_STRIP / es / (vl * x))));
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.pieces = c.units = p->d.n * c.blocks;
  /* The last strip may have so few lanes that it is cut in another way. */
  const int64_t lanes[] = {c.lanes, fc_round_up(p->d.c - (c.blocks - 1) * c.lanes, vl)};
  for (int i = 0; i < 2; i++) {
    const fc_pool_plan strip = fc_pool_strip_plan(p, lanes[i]);
    c.scratch = fc_max(c.scratch, fc_pool_cut_call(&strip, 1).scratch);
  }
  c.scratch += (2 * x + y) * c.lanes * es + (p->d.indices ? y * c.lanes * 8 : 0);
  c.scratch = fc_round_up(c.scratch + 5 * FC_ALIGN, FC_ALIGN);
  return c;
}

int fc_pool_gathers(const fc_pool_plan *p) {
  return p->d.indices && p->most_around && p->d.c > 1 && p->d.y_stride[1] == 1 && p->d.dx_stride[1] == 1 &&
         p->d.indices_stride[1] == 1;
}

fc_pool_cut fc_pool_cut_call(const fc_pool_plan *p, int nthreads) {
  if (strips_pay(p)) return cut_strips(p);
  if (p->d.kind == FC_MAX && p->d.direction == FC_BWD_INPUT && !p->d.indices && p->d.c > 1 && p->d.x_stride[1] == 1 &&
      p->d.y_stride[1] == 1 && p->d.dx_stride[1] == 1 && !large_windows(p))
    return cut_gradient(p, nthreads);
  return fc_pool_gathers(p) ? cut_gather(p, nthreads) : fc_pool_cut_rows(p, nthreads);
}

/* Rows of windows, one after the other. */
fc_pool_cut fc_pool_cut_rows(const fc_pool_plan *p, int nthreads) {
  const int64_t *ss = fc_pool_forward_like(p) ? p->d.x_stride : p->d.y_stride;
  fc_pool_cut c = {.lanes = 1};
  int64_t rows = p->most_rows;
  if (boxes_pay(p) && !p->spread) return cut_boxes(p, ss[1] == 1 && ss[4] != 1);
  static const int64_t zero = 0, one = 1;
  memcpy(c.axis, p->axis, sizeof c.axis);
  const int64_t *in = p->d.x_size, *dx = p->d.dx_stride;
  if (p->spread && dx[4] == 1 && (in[1] == 1 || dx[3] == in[2]) && (in[0] == 1 || dx[2] == in[1] * in[2])) {
    c.form = FC_POOL_SPREAD;
    c.axis[2].target *= c.axis[0].target * c.axis[1].target;
    c.axis[0].target = c.axis[1].target = 1;
  } else if (p->d.c == 1 || ss[1] != 1 || (ss[4] == 1 && c.axis[2].source > 1)) {
    const int even = p->op != FC_POOL_SHARES && ss[4] == 1 && (p->even[2].step == 1 || p->even[2].step == 2);
    c.form = even ? FC_POOL_EVEN_COLUMNS : FC_POOL_COLUMNS;
    const int64_t width = c.axis[2].source;
    const int dense = ss[3] == width * ss[4] || c.axis[1].source == 1;
    if (p->plane && dense && p->op != FC_POOL_SHARES &&
        (p->op != FC_POOL_ARGMAX || p->d.dx_stride[3] == width * p->d.dx_stride[4])) {
      const int single = c.axis[0].source == 1 && c.axis[0].target == 1 && ss[4] == 1 && p->op != FC_POOL_ARGMAX;
      c.form = single ? FC_POOL_PLANES : FC_POOL_COLUMNS;
      rows = c.axis[0].source;
      c.axis[1] = (fc_pool_axis){1, 1, 1, &zero, &one, c.axis[1].divisor, 0};
      c.axis[2] = (fc_pool_axis){p->plane, 1, 1, &zero, &p->plane, c.axis[2].divisor, 0};
    }
  } else {
    c.form = large_windows(p) ? FC_POOL_CHANNELS : FC_POOL_POSITIONS;
    const int few = nthreads > 1 && p->d.n * c.axis[0].target * c.axis[1].target < 4 * nthreads;
    c.lanes = few || p->op == FC_POOL_ARGMAX ? fc_min(p->d.c, FC_POOL_LANES / p->es) : p->d.c;
    if (c.form == FC_POOL_CHANNELS) /* a window is the least that a row buffer holds */
      c.lanes = fc_min(c.lanes, fc_max(1, FC_POOL_SPAN / (p->most_taps * p->kn->vl * p->es)) * p->kn->vl);
  }
  /* Rows are reduced in groups, then columns one by one, unless these are neighbours; or all positions in groups. */
  if (c.form == FC_POOL_POSITIONS) rows *= p->most_taps;
  const int single_columns = c.form == FC_POOL_CHANNELS || c.form == FC_POOL_EVEN_COLUMNS || p->op == FC_POOL_SHARES;
  c.lengthy = (p->op == FC_POOL_TOTAL || p->op == FC_POOL_SHARES) && c.form != FC_POOL_PLANES && c.form != FC_POOL_SPREAD &&
              (rows > FC_POOL_ADDITIONS * FC_POOL_GROUP || (single_columns && p->most_taps > FC_POOL_ADDITIONS));
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.units = p->d.n * c.blocks;
  c.rows = c.axis[0].target * c.axis[1].target;
  /* Columns: as many as the row buffer takes, and the places where the maxima were. */
  c.columns = c.axis[2].target;
  const int64_t places = p->op == FC_POOL_ARGMAX ? 8 * c.lanes : 0;
  while (c.columns > p->kn->vl && fc_max(span_of(p, &c, 0, c.columns) * c.lanes * p->es, c.columns * places) > FC_POOL_SPAN)
    c.columns = fc_div_up(c.columns, 2);
  for (int64_t col = 0; col < c.axis[2].target; col += c.columns)
    c.span = fc_max(c.span, span_of(p, &c, col, fc_min(c.axis[2].target, col + c.columns)));
  if (c.form == FC_POOL_EVEN_COLUMNS) {
    c.pitch = c.span + p->kn->vl; /* as far as a row's last vector goes */
    c.chunk = fc_max(1, fc_min(c.rows, FC_POOL_ROWS / p->es / c.pitch));
    c.span = c.chunk * c.pitch + (1 + p->even[2].step) * p->kn->vl;
  } else {
    c.span = c.span * c.lanes + p->kn->vl;
  }
  const int64_t row = fc_max(c.axis[2].source, c.axis[2].target) * c.lanes,
                unit = fc_max(c.axis[0].source * c.axis[1].source, c.rows) * row;
  c.units_per_piece = fc_max(1, FC_PIECE_POOL / unit);
  /* A gradient that is scattered needs all rows of its unit in one thread. */
  c.rows_per_piece = p->d.direction == FC_FWD || !fc_pool_forward_like(p) ? fc_max(1, c.rows * FC_PIECE_POOL / unit) : c.rows;
  if (c.units_per_piece > 1) c.rows_per_piece = c.rows;
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(c.rows, c.rows_per_piece);
  const int64_t results = c.columns * c.lanes + p->kn->vl;
  const int64_t taps = p->most_rows * (1 + (c.form == FC_POOL_POSITIONS ? p->most_taps : 0));
  c.scratch = 16 * FC_ALIGN + (2 * c.span + 3 * results + c.columns + p->kn->vl) * p->es + taps * 3 * 8 +
              (results + c.columns) * 8;
  c.scratch = fc_round_up(c.scratch, FC_ALIGN);
  return c;
}
