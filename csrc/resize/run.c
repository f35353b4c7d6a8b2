/* Resizing: one call. */
#include "core/threads.h"
#include "resize.h"

typedef struct resize_job {
  const fc_resize_plan *plan;
  const char *x;
  char *y, *workspace;
} resize_job;

static int64_t offset_of(const int64_t stride[5], const int64_t at[4]) {
  return at[0] * stride[0] + at[1] * stride[1] + at[2] * stride[2] + at[3] * stride[3];
}

/* Where row number `row` of the result is: image, channel (the first of those that a row is of), d, h. */
static void place(const fc_resize_plan *p, int64_t row, int64_t at[4]) {
  const int64_t channels = p->lanes_are == CHANNELS ? 1 : p->d.c / p->pixel;
  at[3] = row % p->d.y_size[1];
  row /= p->d.y_size[1];
  at[2] = row % p->d.y_size[0];
  row /= p->d.y_size[0];
  at[1] = row % channels;
  at[0] = row / channels;
}

/* Rows of x that rows of the result are sums of: from row_first[r] on, in elements after `from`. */
typedef struct terms {
  const char *from;
  const int32_t *first;
  const int64_t *place;
  const char *weight;
} terms;

/* Of the row of the result at this place, and those after it, `count` in all; returns for how many of them there is room. Where
 * they are sums along d too, their terms are listed. */
static int64_t find_rows(const resize_job *j, const int64_t at[4], int64_t count, terms *t, void *list) {
  const fc_resize_plan *p = j->plan;
  const fc_resize_table *d = &p->axis[0], *h = &p->axis[1];
  const int64_t step = p->d.x_stride[2];
  t->from = j->x + (at[0] * p->d.x_stride[0] + at[1] * p->d.x_stride[1]) * p->es;
  if (p->flat) {
    t->from += d->index[at[2]] * step * p->es;
    t->first = h->first + at[3];
    t->place = p->row_place;
    t->weight = p->row_weight;
    return count;
  }
  const int32_t begin = d->first[at[2]], end = d->first[at[2] + 1];
  int64_t *place = list, rows = 0;
  char *weight = (char *)list + p->listed * 8;
  int32_t *first = (int32_t *)(weight + p->listed * 8), k = 0;
  first[0] = 0;
  for (; rows < fc_min(count, p->listed); rows++) {
    const int32_t b0 = h->first[at[3] + rows], b1 = h->first[at[3] + rows + 1];
    if (k + (int64_t)(end - begin) * (b1 - b0) > p->listed) break;
    for (int32_t a = begin; a < end; a++)
      for (int32_t b = b0; b < b1; b++, k++) {
        place[k] = d->index[a] * step + p->row_place[b];
        fc_resize_put(p, weight, k, d->weight[a] * h->weight[b]);
      }
    first[rows + 1] = k;
  }
  t->first = first;
  t->place = place;
  t->weight = weight;
  return rows;
}

/* What a block reads of the rows that one is the sum of, which is number r of those that were found. */
static fc_resize_rows sum_of(const fc_resize_plan *p, const fc_resize_block *b, const terms *t, int64_t r) {
  return (fc_resize_rows){.from = t->from + (b->at ? 0 : b->low * p->d.x_stride[4] * p->es),
                          .weight = t->weight + t->first[r] * p->es,
                          .place = t->place + t->first[r],
                          .taps = t->first[r + 1] - t->first[r],
                          .runs = b->used,
                          .step = p->d.x_stride[4],
                          .at = b->at};
}

/* Whether a row is one of the source's as it is. */
static int is_there(const fc_resize_plan *p, const fc_resize_rows *t) {
  return t->taps == 1 && (p->es == 4 ? *(const float *)t->weight == 1 : *(const double *)t->weight == 1);
}

static fc_resize_pixels pixels_of(const fc_resize_plan *p, const fc_resize_block *b) {
  return (fc_resize_pixels){
      .weight = p->weight, .first = p->axis[2].first + b->begin, .index = p->local, .count = b->count, .lanes = p->lanes};
}

/* Rows of pixels whose channels are neighbours. */
static void piece_of_channels(const resize_job *j, const fc_resize_block *b, int64_t lane, int64_t row0, int64_t row1,
                              char *scratch) {
  const fc_resize_plan *p = j->plan;
  for (int64_t row = row0; row < row1; row++) {
    int64_t at[4];
    terms of;
    place(p, row, at);
    find_rows(j, at, 1, &of, scratch);
    of.from += lane * p->es;
    fc_resize_rows t = sum_of(p, b, &of, 0);
    fc_resize_pixels s = pixels_of(p, b);
    s.lanes = fc_min(p->lanes, p->d.c - lane);
    if (is_there(p, &t) || (t.taps == 2 && p->pairs)) {
      s.from = of.from + t.place[0] * p->es;
      s.other = t.taps == 2 ? of.from + t.place[1] * p->es : 0;
      s.row_weight = t.weight;
      s.from_step = p->d.x_stride[4];
      s.index = p->axis[2].index;
    } else {
      t.length = s.from_step = s.lanes;
      s.from = t.to = scratch + p->list;
      p->kn->resize_rows(&t);
    }
    s.to_step = p->d.y_stride[4];
    s.to = j->y + (offset_of(p->d.y_stride, at) + lane + b->begin * s.to_step) * p->es;
    p->kn->resize_pixels(&s);
  }
}

/* Rows whose elements are lanes, those of a plane together. */
static void piece_of_lines(const resize_job *j, const fc_resize_block *b, int64_t row0, int64_t row1, char *scratch) {
  const fc_resize_plan *p = j->plan;
  for (int64_t row = row0; row < row1;) {
    int64_t at[4];
    terms of;
    place(p, row, at);
    const int64_t rows = find_rows(j, at, fc_min(row1 - row, p->d.y_size[1] - at[3]), &of, scratch);
    fc_resize_lines t = {.rows = rows,
                         .row_first = of.first,
                         .row_place = of.place,
                         .row_weight = of.weight,
                         .to = j->y + (offset_of(p->d.y_stride, at) + b->begin * p->pixel) * p->es,
                         .to_row = p->d.y_stride[3],
                         .count = b->count * p->pixel,
                         .first = p->first + b->vector,
                         .terms = p->terms,
                         .lane = p->lane,
                         .weight = p->lane_weight,
                         .plain = p->plain};
    t.sum = sum_of(p, b, &of, 0);
    t.sum.length = p->pixel;
    t.sum.to = scratch + p->list;
    p->kn->resize_lines(&t);
    row += rows;
  }
}

/* So many rows, which become lanes: their pixels come next to each other, and go back. */
static void group_of_rows(const resize_job *j, const fc_resize_block *b, int64_t row0, int64_t count, char *scratch) {
  const fc_resize_plan *p = j->plan;
  const int64_t vl = p->lanes, es = p->es;
  char *rows = scratch + p->list, *strip = rows + p->pitch * vl * es, *made = strip + p->pitch * vl * es;
  int64_t places[FC_MAX_LANES];
  int even = p->d.y_stride[4] == 1 || b->count == 1;
  for (int64_t k = 0; k < count; k++) {
    int64_t at[4];
    terms of;
    place(p, row0 + k, at);
    find_rows(j, at, 1, &of, scratch);
    fc_resize_rows t = sum_of(p, b, &of, 0);
    t.length = 1;
    t.to = rows + k * p->pitch * es;
    p->kn->resize_rows(&t);
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
  const fc_resize_plan *p = j->plan;
  char *scratch = j->workspace + worker * p->scratch;
  const fc_resize_block *b = &p->blocks[index % p->nblocks];
  index /= p->nblocks;
  const int64_t lane = index % p->lane_blocks * p->lanes, row0 = index / p->lane_blocks * p->rows_per_piece;
  const int64_t row1 = fc_min(row0 + p->rows_per_piece, p->rows);
  if (p->lanes_are == CHANNELS) {
    piece_of_channels(j, b, lane, row0, row1, scratch);
    return;
  }
  if (p->lanes_are == LINES) {
    piece_of_lines(j, b, row0, row1, scratch);
    return;
  }
  const int64_t all = p->d.n * p->d.c * p->d.y_size[0] * p->d.y_size[1];
  for (int64_t row = row0; row < row1; row++)
    group_of_rows(j, b, row * p->lanes, fc_min(p->lanes, all - row * p->lanes), scratch);
}

int fc_resize_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const fc_resize_plan *p = (const fc_resize_plan *)plan;
  resize_job j = {p, arrays[FC_X], arrays[FC_Y], workspace};
  return fc_parallel_for(nthreads, p->pieces, piece, &j);
}
