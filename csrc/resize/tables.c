/* Resizing: tables, as kernels read them. */
#include "resize.h"

/* How often each term of a sum may stand in the vectors' tables: lanes that have fewer terms than others have no use for theirs.
 */
enum { MOST_PADDING = 4 };

/* Copies a table; that of an axis that stays as it is has each position once. */
static int take(fc_resize_table *t, const int64_t *first, const int64_t *index, const double *weight, int64_t x_size,
                int64_t y_size) {
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

/* Whether each position is one of the source, as it is. */
static int is_plain(const fc_resize_table *t, int64_t size) {
  for (int64_t o = 0; o < size; o++)
    if (t->first[o + 1] - t->first[o] != 1 || t->weight[t->first[o]] != 1) return 0;
  return 1;
}

static int rising(const void *a, const void *b) {
  const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

/* Numbers the pixels that a block reads, in `sorted`; returns how many there are, of which the rest of `at` has the places
 * where they are no neighbours. */
static void number(fc_resize_plan *p, fc_resize_block *b, int32_t *sorted, int64_t *at) {
  const fc_resize_table *t = &p->axis[2];
  const int64_t from = t->first[b->begin], taps = t->first[b->begin + b->count] - from;
  memcpy(sorted, t->index + from, (size_t)taps * sizeof *sorted);
  qsort(sorted, (size_t)taps, sizeof *sorted, rising);
  for (int64_t i = 0; i < taps; i++)
    if (i == 0 || sorted[i] != sorted[i - 1]) sorted[b->used++] = sorted[i];
  if (!b->used) return;
  b->low = sorted[0];
  /* Those between are read as well where that is no more than as many: vectors are faster. */
  const int64_t reach = sorted[b->used - 1] - sorted[0] + 1;
  const int neighbours = reach <= 2 * b->used;
  b->at = neighbours ? 0 : at;
  for (int64_t i = 0; i < b->used && !neighbours; i++) at[i] = sorted[i] * p->d.x_stride[4];
  for (int64_t i = from; i < from + taps; i++) {
    const int32_t *found = bsearch(t->index + i, sorted, (size_t)b->used, sizeof *sorted, rising);
    p->local[i] = neighbours ? t->index[i] - sorted[0] : (int32_t)(found - sorted);
  }
  if (neighbours) b->used = reach;
}

/* Cuts rows of the result into blocks. */
static int cut(fc_resize_plan *p) {
  const fc_resize_table *t = &p->axis[2];
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
    fc_resize_block *b = &p->blocks[p->nblocks];
    *b = (fc_resize_block){.begin = o};
    for (o++; o < count && o - b->begin < BLOCK && t->first[o + 1] - t->first[b->begin] <= BLOCK_TAPS;) o++;
    b->count = o - b->begin;
    number(p, b, sorted, p->at + t->first[b->begin]);
    p->used = fc_max(p->used, b->used);
  }
  for (int64_t i = 0; there && i < taps; i++) fc_resize_put(p, p->weight, i, t->weight[i]);
  free(sorted);
  return there ? FC_OK : FC_ERROR_MEMORY;
}

/* Most terms of the elements of a vector, which are n from `begin` of a block on. */
static int32_t most_terms(const fc_resize_plan *p, const fc_resize_block *b, int64_t begin, int64_t n) {
  const int32_t *first = p->axis[2].first + b->begin;
  int32_t most = 0;
  for (int64_t o = begin / p->pixel; o <= (begin + n - 1) / p->pixel; o++) most = (int32_t)fc_max(most, first[o + 1] - first[o]);
  return most;
}

/* Term number k of a vector's elements, as the kernel's entry e; returns whether they lie near enough. */
static int line_up_term(fc_resize_plan *p, const fc_resize_block *b, int64_t begin, int64_t n, int32_t k, int64_t e) {
  const fc_resize_table *t = &p->axis[2];
  const int64_t vl = p->kn->vl;
  int64_t place[FC_MAX_LANES], low = INT64_MAX, high = 0;
  fc_resize_term *term = &p->terms[e];
  term->ragged = 0;
  for (int64_t l = 0; l < n; l++) {
    const int64_t o = b->begin + (begin + l) / p->pixel, i = t->first[o] + k;
    const int there = i < t->first[o + 1];
    place[l] = there ? p->local[i] * p->pixel + (begin + l) % p->pixel : -1;
    fc_resize_put(p, p->lane_weight, e * vl + l, there ? t->weight[i] : 0);
    term->ragged |= !there;
    if (there) low = fc_min(low, place[l]);
    high = fc_max(high, place[l]);
  }
  low = fc_max(0, fc_min(low, b->used * p->pixel - 2 * vl));
  term->first = (int32_t)low;
  term->wide = high - low >= vl;
  for (int64_t l = 0; l < vl; l++) {
    const int there = l < n && place[l] >= 0;
    p->lane[e * vl + l] = there ? (int32_t)(place[l] - low) : 0;
    if (l >= n) fc_resize_put(p, p->lane_weight, e * vl + l, 0);
  }
  return high - low < 2 * vl;
}

/* Tables of lines; `fits` becomes 0 where terms lie too far apart, or have too different numbers. */
int fc_resize_line_up(fc_resize_plan *p, int *fits) {
  const fc_resize_table *t = &p->axis[2];
  const int64_t vl = p->kn->vl, most = MOST_PADDING * (t->first[p->d.y_size[2]] * p->pixel + p->nblocks * vl);
  int64_t vectors = 0, terms = 0;
  for (fc_resize_block *b = p->blocks; b < p->blocks + p->nblocks; b++) {
    b->vector = vectors;
    vectors += fc_div_up(b->count * p->pixel, vl);
    for (int64_t i = 0; i < b->count * p->pixel; i += vl) terms += most_terms(p, b, i, fc_min(vl, b->count * p->pixel - i));
  }
  *fits = 0;
  if (terms * vl > most || terms > FC_MOST) return FC_OK;
  p->first = malloc((size_t)(vectors + 1) * sizeof *p->first);
  p->terms = malloc((size_t)fc_max(terms, 1) * sizeof *p->terms);
  p->lanes_memory = malloc((size_t)(terms * vl * ((int64_t)sizeof *p->lane + p->es) + 2 * FC_ALIGN));
  if (!p->first || !p->terms || !p->lanes_memory) return FC_ERROR_MEMORY;
  p->lane = fc_aligned(p->lanes_memory); /* vectors of them cross no cache line */
  p->lane_weight = fc_aligned(p->lane + terms * vl);
  int32_t e = 0;
  p->first[0] = 0;
  *fits = 1;
  for (const fc_resize_block *b = p->blocks; b < p->blocks + p->nblocks; b++)
    for (int64_t i = 0, v = b->vector; i < b->count * p->pixel; i += vl) {
      const int64_t n = fc_min(vl, b->count * p->pixel - i);
      const int32_t most_here = most_terms(p, b, i, n);
      for (int32_t k = 0; k < most_here && *fits; k++) *fits = line_up_term(p, b, i, n, k, e++);
      p->first[++v] = e;
    }
  p->plain = is_plain(t, p->d.y_size[2]);
  return FC_OK;
}

int fc_resize_tables(fc_resize_plan *p) {
  const fc_resize_desc *d = &p->d;
  for (int i = 0; i < 3; i++) {
    const int status = take(&p->axis[i], d->first[i], d->index[i], d->weight[i], d->x_size[i], d->y_size[i]);
    if (status) return status;
  }
  p->row_taps = p->axis[0].most * p->axis[1].most;
  if (p->row_taps > MOST_TAPS || p->axis[2].most > MOST_TAPS) return FC_ERROR_REFUSED;
  p->pairs = p->axis[2].most <= 2;
  for (int64_t o = 0; o < d->y_size[2]; o++) p->pairs &= p->axis[2].first[o + 1] > p->axis[2].first[o];
  p->flat = is_plain(&p->axis[0], d->y_size[0]);
  const fc_resize_table *h = &p->axis[1];
  const int64_t taps = fc_max(1, h->first[d->y_size[1]]);
  p->row_place = calloc((size_t)taps, sizeof *p->row_place);
  p->row_weight = calloc((size_t)taps, (size_t)p->es);
  if (!p->row_place || !p->row_weight) return FC_ERROR_MEMORY;
  for (int64_t k = 0; k < h->first[d->y_size[1]]; k++) {
    p->row_place[k] = h->index[k] * d->x_stride[3];
    fc_resize_put(p, p->row_weight, k, h->weight[k]);
  }
  return cut(p);
}

void fc_resize_forget(fc_resize_plan *p) {
  for (int i = 0; i < 3; i++) {
    free(p->axis[i].first);
    free(p->axis[i].index);
    free(p->axis[i].weight);
  }
  free(p->weight);
  free(p->local);
  free(p->at);
  free(p->blocks);
  free(p->row_place);
  free(p->row_weight);
  free(p->first);
  free(p->terms);
  free(p->lanes_memory);
}
