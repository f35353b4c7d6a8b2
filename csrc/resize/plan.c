/* Resizing: rows of the result are sums of rows, of which then each pixel is a sum of pixels. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"

/* Elements of the result below which a call runs on its caller alone, and those of a piece. */
#ifndef FC_SERIAL_RESIZE
#define FC_SERIAL_RESIZE (64 * 1024)
#endif
#define FC_PIECE_RESIZE (32 * 1024)

/* Terms of a sum along w, or along the other axes together; pixels of a block of a row, and terms of their sums; bytes of its
 * source. */
enum { MOST_TAPS = 1 << 16, BLOCK = 256, BLOCK_TAPS = 1024, BLOCK_BYTES = 64 * 1024 };

/* The table of an axis. */
typedef struct table {
  int32_t *first, *index;
  double *weight;
  int64_t most;                /* terms of a sum */
} table;

/* Pixels of a row of the result, and what of its source's row they read: pixels that are neighbours, from low on, or those that
 * are so many elements after the first. */
typedef struct block {
  int64_t begin, count, low, used;
  const int64_t *at;
} block;

typedef struct resize_plan {
  fc_plan head;
  fc_resize_desc d;
  const fc_kernels *kn;
  int64_t es;
  int channels;                /* lanes are channels, which are neighbours; else rows */
  table axis[3];
  void *weight;                /* along w, of the arrays' type */
  int32_t *local;              /* along w, the numbers of pixels among those that a block reads */
  int64_t *at;
  block *blocks;
  int64_t nblocks, used, row_taps; /* most pixels that a block reads; most rows that are added */
  int64_t lanes, lane_blocks, rows, rows_per_piece, pieces, pitch;
  int64_t list, scratch;       /* bytes for a thread: of the list of rows; in all */
} resize_plan;

typedef struct resize_job {
  const resize_plan *plan;
  const char *x;
  char *y, *workspace;
} resize_job;

/* ---- tables ---- */

/* Copies a table; that of an axis that stays as it is has each position once. */
static int take(table *t, const int64_t *first, const int64_t *index, const double *weight, int64_t x_size, int64_t y_size) {
  if (!first && x_size != y_size) return FC_ERROR_ARGUMENT;
  if (first && (!index || !weight || first[0] != 0)) return FC_ERROR_ARGUMENT;
  for (int64_t o = 0; first && o < y_size; o++)
    if (!fc_between(first[o + 1], first[o], FC_MOST)) return FC_ERROR_ARGUMENT;
  const int64_t taps = first ? first[y_size] : y_size;
  for (int64_t i = 0; first && i < taps; i++)
    if (!fc_between(index[i], 0, x_size - 1)) return FC_ERROR_ARGUMENT;
  t->first = malloc((size_t)(y_size + 1) * sizeof *t->first);
  t->index = malloc((size_t)fc_max(taps, 1) * sizeof *t->index);
  t->weight = malloc((size_t)fc_max(taps, 1) * sizeof *t->weight);
  if (!t->first || !t->index || !t->weight) return FC_ERROR_MEMORY;
  for (int64_t o = 0; o <= y_size; o++) t->first[o] = (int32_t)(first ? first[o] : o);
  for (int64_t o = 0; o < y_size; o++) t->most = fc_max(t->most, t->first[o + 1] - t->first[o]);
  for (int64_t i = 0; i < taps; i++) {
    t->index[i] = (int32_t)(first ? index[i] : i);
    t->weight[i] = first ? weight[i] : 1;
  }
  return FC_OK;
}

static int rising(const void *a, const void *b) {
  const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

/* Numbers the pixels that a block reads, in `sorted`; returns how many there are, of which the rest of `at` has the places
 * where they are no neighbours. */
static void number(resize_plan *p, block *b, int32_t *sorted, int64_t *at) {
  const table *t = &p->axis[2];
  const int64_t from = t->first[b->begin], taps = t->first[b->begin + b->count] - from;
  memcpy(sorted, t->index + from, (size_t)taps * sizeof *sorted);
  qsort(sorted, (size_t)taps, sizeof *sorted, rising);
  for (int64_t i = 0; i < taps; i++)
    if (i == 0 || sorted[i] != sorted[i - 1]) sorted[b->used++] = sorted[i];
  if (!b->used) return;
  b->low = sorted[0];
  const int neighbours = sorted[b->used - 1] - sorted[0] + 1 == b->used;
  b->at = neighbours ? 0 : at;
  for (int64_t i = 0; i < b->used && !neighbours; i++) at[i] = sorted[i] * p->d.x_stride[4];
  for (int64_t i = from; i < from + taps; i++) {
    const int32_t *found = bsearch(t->index + i, sorted, (size_t)b->used, sizeof *sorted, rising);
    p->local[i] = (int32_t)(found - sorted);
  }
}

/* Cuts rows of the result into blocks. */
static int cut(resize_plan *p) {
  const table *t = &p->axis[2];
  const int64_t count = p->d.y_size[2], taps = t->first[count];
  /* Of two blocks that follow each other, of which the first has less than BLOCK pixels, both have more than BLOCK_TAPS terms. */
  const int64_t most = count / BLOCK + 2 * taps / BLOCK_TAPS + 2;
  int32_t *sorted = malloc((size_t)fc_max(taps, 1) * sizeof *sorted);
  p->blocks = malloc((size_t)most * sizeof *p->blocks);
  p->local = malloc((size_t)fc_max(taps, 1) * sizeof *p->local);
  p->at = malloc((size_t)fc_max(taps, 1) * sizeof *p->at);
  p->weight = malloc((size_t)(fc_max(taps, 1) * p->es));
  const int there = sorted && p->blocks && p->local && p->at && p->weight;
  for (int64_t o = 0; there && o < count; p->nblocks++) {
    block *b = &p->blocks[p->nblocks];
    *b = (block){.begin = o};
    for (o++; o < count && o - b->begin < BLOCK && t->first[o + 1] - t->first[b->begin] <= BLOCK_TAPS;) o++;
    b->count = o - b->begin;
    number(p, b, sorted, p->at + t->first[b->begin]);
    p->used = fc_max(p->used, b->used);
  }
  for (int64_t i = 0; there && i < taps; i++)
    if (p->es == 4)
      ((float *)p->weight)[i] = (float)t->weight[i];
    else
      ((double *)p->weight)[i] = t->weight[i];
  free(sorted);
  return there ? FC_OK : FC_ERROR_MEMORY;
}

/* ---- the plan ---- */

static int describe(resize_plan *p, const fc_resize_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  const int known = fc_find_kernels(&p->kn, given->isa, &given->types);
  if (known) return known;
  fc_resize_desc d = *given;
  const int64_t x[5] = {d.n, d.c, d.x_size[0], d.x_size[1], d.x_size[2]};
  const int64_t y[5] = {d.n, d.c, d.y_size[0], d.y_size[1], d.y_size[2]};
  if (!fc_elements(x, 5) || !fc_elements(y, 5) || !fc_settle(d.x_stride, x, 5) || !fc_settle(d.y_stride, y, 5) ||
      !fc_apart(d.y_stride, y, 5))
    return FC_ERROR_ARGUMENT;
  p->d = d;
  p->es = fc_bytes(d.types.x);
  for (int i = 0; i < 3; i++) {
    const int status = take(&p->axis[i], d.first[i], d.index[i], d.weight[i], d.x_size[i], d.y_size[i]);
    if (status) return status;
  }
  p->row_taps = p->axis[0].most * p->axis[1].most;
  if (p->row_taps > MOST_TAPS || p->axis[2].most > MOST_TAPS) return FC_ERROR_REFUSED;
  return cut(p);
}

/* Who computes which part. */
static void arrange(resize_plan *p) {
  const fc_resize_desc *d = &p->d;
  const int64_t vl = p->kn->vl, rows = d->n * d->y_size[0] * d->y_size[1];
  p->channels = d->c > 1 && d->x_stride[1] == 1 && d->y_stride[1] == 1;
  p->pitch = fc_round_up(fc_max(p->used, 1), vl);
  if (p->channels) {
    p->rows = rows;
    p->lanes = fc_min(d->c, fc_max(1, BLOCK_BYTES / (p->pitch * p->es * vl)) * vl);
    p->lane_blocks = fc_div_up(d->c, p->lanes);
  } else {
    p->rows = fc_div_up(rows * d->c, vl);
    p->lanes = vl;
    p->lane_blocks = 1;
  }
  p->rows_per_piece = fc_min(p->rows, fc_max(1, FC_PIECE_RESIZE / (p->lanes * p->blocks[0].count)));
  p->pieces = fc_div_up(p->rows, p->rows_per_piece) * p->lane_blocks * p->nblocks;
  p->list = fc_round_up(fc_max(p->row_taps, 1) * 16, FC_ALIGN);
  const int64_t pixels = p->pitch * p->lanes * (p->channels ? 1 : 2) + (p->channels ? 0 : BLOCK * vl);
  p->scratch = p->list + fc_round_up(pixels * p->es, FC_ALIGN);
}

/* ---- a run ---- */

static int64_t offset_of(const int64_t stride[5], const int64_t at[4]) {
  return at[0] * stride[0] + at[1] * stride[1] + at[2] * stride[2] + at[3] * stride[3];
}

/* Where row number `row` of the result is: image, channel (of those, where rows are not of all), d, h. */
static void place(const resize_plan *p, int64_t row, int64_t at[4]) {
  at[3] = row % p->d.y_size[1];
  row /= p->d.y_size[1];
  at[2] = row % p->d.y_size[0];
  row /= p->d.y_size[0];
  at[1] = p->channels ? 0 : row % p->d.c;
  at[0] = p->channels ? row : row / p->d.c;
}

/* The rows of x that one of the result is the sum of; returns whether it is one of them as it is. */
static int find_rows(const resize_job *j, const int64_t at[4], int64_t lane, fc_resize_rows *t, void *list) {
  const resize_plan *p = j->plan;
  const table *d = &p->axis[0], *h = &p->axis[1];
  const void **from = list;
  char *weight = (char *)list + fc_max(p->row_taps, 1) * 8;
  double by = 0;
  t->from = from;
  t->weight = weight;
  t->taps = 0;
  for (int32_t a = d->first[at[2]]; a < d->first[at[2] + 1]; a++)
    for (int32_t b = h->first[at[3]]; b < h->first[at[3] + 1]; b++, t->taps++) {
      from[t->taps] = j->x + (offset_of(p->d.x_stride, (int64_t[]){at[0], at[1], d->index[a], h->index[b]}) + lane) * p->es;
      by = d->weight[a] * h->weight[b];
      if (p->es == 4)
        ((float *)weight)[t->taps] = (float)by;
      else
        ((double *)weight)[t->taps] = by;
    }
  return t->taps == 1 && by == 1;
}

/* The sum of the rows, of what a block reads of them. */
static void add_rows(const resize_plan *p, const block *b, fc_resize_rows *t) {
  const void **from = (const void **)t->from;
  t->runs = b->used;
  t->step = p->d.x_stride[4];
  t->at = b->at;
  for (int64_t k = 0; k < t->taps && !b->at; k++) from[k] = (const char *)from[k] + b->low * t->step * p->es;
  p->kn->resize_rows(t);
}

static fc_resize_pixels pixels_of(const resize_plan *p, const block *b) {
  return (fc_resize_pixels){
      .weight = p->weight, .first = p->axis[2].first + b->begin, .index = p->local, .count = b->count, .lanes = p->lanes};
}

/* Rows of pixels whose channels are neighbours. */
static void piece_of_channels(const resize_job *j, const block *b, int64_t lane, int64_t row0, int64_t row1, char *scratch) {
  const resize_plan *p = j->plan;
  for (int64_t row = row0; row < row1; row++) {
    int64_t at[4];
    fc_resize_rows t = {.length = fc_min(p->lanes, p->d.c - lane), .to = scratch + p->list};
    fc_resize_pixels s = pixels_of(p, b);
    place(p, row, at);
    if (find_rows(j, at, lane, &t, scratch)) {
      s.from = t.from[0];
      s.from_step = p->d.x_stride[4];
      s.index = p->axis[2].index;
    } else {
      add_rows(p, b, &t);
      s.from = t.to;
      s.from_step = t.length;
    }
    s.lanes = t.length;
    s.to_step = p->d.y_stride[4];
    s.to = j->y + (offset_of(p->d.y_stride, at) + lane + b->begin * s.to_step) * p->es;
    p->kn->resize_pixels(&s);
  }
}

/* So many rows, which become lanes: their pixels come next to each other, and go back. */
static void group_of_rows(const resize_job *j, const block *b, int64_t row0, int64_t count, char *scratch) {
  const resize_plan *p = j->plan;
  const int64_t vl = p->lanes, es = p->es;
  char *rows = scratch + p->list, *strip = rows + p->pitch * vl * es, *made = strip + p->pitch * vl * es;
  int64_t places[FC_MAX_LANES];
  int even = p->d.y_stride[4] == 1 || b->count == 1;
  for (int64_t k = 0; k < count; k++) {
    int64_t at[4];
    fc_resize_rows t = {.length = 1, .to = rows + k * p->pitch * es};
    place(p, row0 + k, at);
    find_rows(j, at, 0, &t, scratch);
    add_rows(p, b, &t);
    places[k] = offset_of(p->d.y_stride, at) + b->begin * p->d.y_stride[4];
    even &= k < 2 || places[k] - places[k - 1] == places[1] - places[0];
  }
  fc_pool_strip planes = {.planes = rows, .strip = strip, .count = b->used, .plane = p->pitch, .lanes = count, .pitch = vl};
  p->kn->pool_strip(&planes);
  fc_resize_pixels s = pixels_of(p, b);
  s.from = strip;
  s.to = made;
  s.from_step = s.to_step = vl;
  p->kn->resize_pixels(&s);
  if (even) {
    planes = (fc_pool_strip){.planes = j->y + places[0] * es, .strip = made, .count = b->count, .lanes = count, .pitch = vl};
    planes.plane = count > 1 ? places[1] - places[0] : 0;
    p->kn->pool_unstrip(&planes);
    return;
  }
  for (int64_t k = 0; k < count; k++)
    for (int64_t o = 0; o < b->count; o++) {
      const int64_t to = places[k] + o * p->d.y_stride[4], from = o * vl + k;
      if (es == 4)
        ((float *)j->y)[to] = ((float *)made)[from];
      else
        ((double *)j->y)[to] = ((double *)made)[from];
    }
}

static void piece(void *ctx, int64_t index, int worker) {
  const resize_job *j = ctx;
  const resize_plan *p = j->plan;
  char *scratch = j->workspace + worker * p->scratch;
  const block *b = &p->blocks[index % p->nblocks];
  index /= p->nblocks;
  const int64_t lane = index % p->lane_blocks * p->lanes, row0 = index / p->lane_blocks * p->rows_per_piece;
  const int64_t row1 = fc_min(row0 + p->rows_per_piece, p->rows);
  if (p->channels) {
    piece_of_channels(j, b, lane, row0, row1, scratch);
    return;
  }
  const int64_t all = p->d.n * p->d.c * p->d.y_size[0] * p->d.y_size[1];
  for (int64_t row = row0; row < row1; row++)
    group_of_rows(j, b, row * p->lanes, fc_min(p->lanes, all - row * p->lanes), scratch);
}

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const resize_plan *p = (const resize_plan *)plan;
  resize_job j = {p, arrays[FC_X], arrays[FC_Y], workspace};
  return fc_parallel_for(nthreads, p->pieces, piece, &j);
}

static int64_t workspace(const fc_plan *plan, int nthreads, int packed) {
  (void)packed;
  return nthreads * ((const resize_plan *)plan)->scratch + FC_ALIGN;
}

static void destroy(fc_plan *plan) {
  resize_plan *p = (resize_plan *)plan;
  for (int i = 0; i < 3; i++) {
    free(p->axis[i].first);
    free(p->axis[i].index);
    free(p->axis[i].weight);
  }
  free(p->weight);
  free(p->local);
  free(p->at);
  free(p->blocks);
  free(p);
}

static const fc_operator resize = {.destroy = destroy, .run = run, .workspace = workspace};

int fc_plan_resize(const fc_resize_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  resize_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  const int status = describe(p, d);
  if (status) {
    destroy(&p->head);
    return status;
  }
  arrange(p);
  const int64_t y = d->n * d->c * d->y_size[0] * d->y_size[1] * d->y_size[2];
  p->head = (fc_plan){.does = &resize,
                      .algorithm = p->channels ? "channels" : "rows",
                      .needs = FC_BIT(FC_X) | FC_BIT(FC_Y),
                      .serial = y < FC_SERIAL_RESIZE};
  *plan = &p->head;
  return FC_OK;
}
