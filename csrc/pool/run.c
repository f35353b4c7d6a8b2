/* Running a pooling: pieces of planes or rows, strips of channels, and gradients. */
#include "pool/plan.h"

/* Bytes of a dx that is written past the caches. */
#define FC_POOL_STREAM (4 << 20)

typedef struct pool_job {
  const fc_pool_plan *plan;
  fc_pool_cut cut;
  const char *x;
  char *y, *dx, *workspace;
  int64_t *indices;
  int stream;                  /* dx goes past the caches */
  int wrong;                   /* indices are not all inside a plane */
  int64_t givers;              /* gathered: windows that have their index inside */
} pool_job;

/* Zeros in `lanes` channels of an array of the shape of x. */
static void clear(char *p, const fc_pool_desc *d, int64_t lanes, int64_t es) {
  const int64_t *in = d->x_size, *s = d->dx_stride;
  const int dense = lanes == 1 ? s[4] == 1 : s[1] == 1 && s[4] == lanes;
  if (dense && (in[1] == 1 || s[3] == in[2] * s[4]) && (in[0] == 1 || s[2] == in[1] * in[2] * s[4])) {
    memset(p, 0, (size_t)(in[0] * in[1] * in[2] * lanes * es));
    return;
  }
  for (int64_t z = 0; z < in[0]; z++)
    for (int64_t h = 0; h < in[1]; h++)
      for (int64_t w = 0; w < in[2]; w++) {
        char *position = p + (z * s[2] + h * s[3] + w * s[4]) * es;
        if (s[1] == 1)
          memset(position, 0, (size_t)(lanes * es));
        else
          for (int64_t l = 0; l < lanes; l++) memset(position + l * s[1] * es, 0, (size_t)es);
      }
}

/* Channels of an array, whose rows are in order in memory, to a strip, or back. */
static void strip_array(void (*kernel)(const fc_pool_strip *s), fc_pool_strip strip, const int64_t size[3], const int64_t s[5],
                        int64_t es) {
  char *planes = strip.planes, *rows = strip.strip;
  /* Rows that adjoin are one. */
  const int flat = (size[1] == 1 || s[3] == size[2]) && (size[0] == 1 || s[2] == size[1] * size[2]);
  strip.plane = s[1];
  strip.count = flat ? fc_pool_positions(size) : size[2];
  for (int64_t d = 0; d < (flat ? 1 : size[0]); d++)
    for (int64_t h = 0; h < (flat ? 1 : size[1]); h++, rows += strip.count * strip.pitch * es) {
      strip.planes = planes + (d * s[2] + h * s[3]) * es;
      strip.strip = rows;
      kernel(&strip);
    }
}

static void piece(void *ctx, int64_t index, int worker);

/* Some channels of an image: to strips, pooled, and back. */
static void strip_piece(pool_job *j, int64_t index, int worker) {
  const fc_pool_plan *p = j->plan;
  const fc_pool_cut *c = &j->cut;
  const int backward = p->d.direction == FC_BWD_INPUT, indices = !backward && p->d.indices;
  const int64_t n = index / c->blocks, c0 = index % c->blocks * c->lanes, es = p->es, *in = p->d.x_size, *out = p->d.y_size;
  fc_pool_strip strip = {.lanes = fc_min(c->lanes, p->d.c - c0)};
  strip.pitch = fc_round_up(strip.lanes, p->kn->vl);
  const fc_pool_plan own = fc_pool_strip_plan(p, strip.pitch);
  char *work = j->workspace + worker * c->scratch;
  char *x = work, *dx = fc_aligned(x + fc_pool_positions(in) * c->lanes * es),
       *y = fc_aligned(dx + fc_pool_positions(in) * c->lanes * es);
  int64_t *found = fc_aligned(y + fc_pool_positions(out) * c->lanes * es);
  char *rest = fc_aligned(found + (indices ? fc_pool_positions(out) * c->lanes : 0));
  pool_job inner = {.plan = &own, .cut = fc_pool_cut_call(&own, 1), .x = x, .y = y, .workspace = rest};
  inner.dx = backward ? dx : 0;
  inner.indices = indices ? found : 0;
#define PLANES(array, strides) ((char *)(array) + (n * (strides)[0] + c0 * (strides)[1]) * es)
  if (fc_pool_forward_like(p)) {
    strip.planes = PLANES(j->x, p->d.x_stride);
    strip.strip = x;
    strip_array(p->kn->pool_strip, strip, in, p->d.x_stride, es);
  }
  strip.planes = PLANES(j->y, p->d.y_stride);
  strip.strip = y;
  if (backward) strip_array(p->kn->pool_strip, strip, out, p->d.y_stride, es);
  for (int64_t i = 0; i < inner.cut.pieces; i++) piece(&inner, i, 0);
  if (!backward) strip_array(p->kn->pool_unstrip, strip, out, p->d.y_stride, es);
  if (backward) {
    strip.planes = PLANES(j->dx, p->d.dx_stride);
    strip.strip = dx;
    strip_array(p->kn->pool_unstrip, strip, in, p->d.dx_stride, es);
  }
#undef PLANES
  const int64_t *at = p->d.indices_stride;
  if (indices)
    for (int64_t l = 0; l < strip.lanes; l++) {
      const int64_t *from = found + l;
      for (int64_t d = 0; d < out[0]; d++)
        for (int64_t h = 0; h < out[1]; h++) {
          int64_t *to = j->indices + n * at[0] + (c0 + l) * at[1] + d * at[2] + h * at[3];
          for (int64_t w = 0; w < out[2]; w++, from += strip.pitch) to[w * at[4]] = *from;
        }
    }
}

static void piece(void *ctx, int64_t index, int worker) {
  pool_job *j = ctx;
  if (j->cut.strips) {
    strip_piece(j, index, worker);
    return;
  }
  const fc_pool_plan *p = j->plan;
  const fc_pool_cut *c = &j->cut;
  const int64_t row_pieces = fc_div_up(c->rows, c->rows_per_piece);
  const int scatter = p->d.kind == FC_MAX && p->d.direction == FC_BWD_INPUT, forward = fc_pool_forward_like(p);
  fc_pool_tile t = {.op = c->lengthy ? FC_POOL_LONG : p->op,
                    .divide = p->divide,
                    .form = c->form,
                    .channels = p->d.c,
                    .lanes = c->lanes,
                    .blocks = c->blocks,
                    .most_rows = c->most_rows ? c->most_rows : p->most_rows,
                    .most_taps = p->most_taps,
                    .source = forward ? j->x : j->y,
                    .target = scatter   ? 0
                              : forward ? j->y
                                        : j->dx,
                    .indices = j->indices,
                    .dy = scatter ? j->y : 0,
                    .grad = scatter ? j->dx : 0,
                    .stream = j->stream,
                    .wrong = &j->wrong,
                    .givers = &j->givers,
                    .partition = p->partition,
                    .source_stride = forward ? p->d.x_stride : p->d.y_stride,
                    .target_stride = forward ? p->d.y_stride : p->d.dx_stride,
                    .index_stride = p->d.indices_stride,
                    .grad_stride = p->d.dx_stride,
                    .span = c->span,
                    .chunk = c->chunk,
                    .pitch = c->pitch,
                    .work = j->workspace + worker * c->scratch};
  memcpy(t.axis, c->axis, sizeof t.axis);
  memcpy(t.even, p->even, sizeof t.even);
  memcpy(t.around, p->around, sizeof t.around);
  t.unit0 = index / row_pieces * c->units_per_piece;
  t.unit1 = fc_min(c->units, t.unit0 + c->units_per_piece);
  t.row0 = index % row_pieces * c->rows_per_piece;
  t.row1 = fc_min(c->rows, t.row0 + c->rows_per_piece);
  if (c->gradient) {
    c->gradient(&t);
    return;
  }
  if (scatter)
    for (int64_t u = t.unit0; u < t.unit1; u++) {
      const int64_t c0 = u % c->blocks * c->lanes;
      clear(j->dx + (u / c->blocks * p->d.dx_stride[0] + c0 * p->d.dx_stride[1]) * p->es, &p->d, fc_min(c->lanes, p->d.c - c0),
            p->es);
    }
  for (t.col0 = 0; t.col0 < c->axis[2].target; t.col0 += c->columns) {
    t.col1 = fc_min(c->axis[2].target, t.col0 + c->columns);
    (scatter && j->indices ? p->kn->pool_scatter : p->kn->pool)(&t);
  }
}

/* Whether dx, with the channels of a position next to each other, is more than caches keep; in vectors as vstream wants them. */
static int streams(const fc_pool_plan *p, const void *dx) {
  int64_t bits = (int64_t)(uintptr_t)dx;
  for (int i = 0; i < 5; i++) bits |= i == 1 ? 0 : p->d.dx_stride[i] * p->es;
  return p->d.dx_stride[1] == 1 && bits % 16 == 0 &&
         p->d.n * p->d.c * p->d.x_size[0] * p->d.x_size[1] * p->d.x_size[2] * p->es >= FC_POOL_STREAM;
}

int fc_pool_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const fc_pool_plan *p = (const fc_pool_plan *)plan;
  pool_job j = {.plan = p,
                .cut = fc_pool_cut_call(p, nthreads),
                .x = arrays[FC_X],
                .y = arrays[FC_Y],
                .dx = arrays[FC_DX],
                .workspace = workspace,
                .indices = p->d.indices ? arrays[FC_INDICES] : 0,
                .stream = streams(p, arrays[FC_DX])};
  int status = fc_parallel_for(nthreads, j.cut.pieces, piece, &j);
  if (status == FC_OK && !j.wrong && fc_pool_gathers(p) && j.givers < p->d.n * p->d.c * fc_pool_positions(p->d.y_size)) {
    /* Not all indices are of their own windows: what they give has to be scattered. */
    j.cut = fc_pool_cut_rows(p, nthreads);
    status = fc_parallel_for(nthreads, j.cut.pieces, piece, &j);
  }
  return status == FC_OK && j.wrong ? FC_ERROR_ARGUMENT : status;
}
