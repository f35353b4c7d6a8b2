/* Copies: of views, turned ones, between types, and of what padding repeats, with its gradient. Where each axis' elements come
 * from, which axes are one, and who copies which block. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"

/* Elements below which a call runs on its caller alone, and those of a piece and of a block: what two threads share has to be
 * worth waking one.
 */
#ifndef FC_SERIAL_COPY
#define FC_SERIAL_COPY (64 * 1024)
#endif
#define FC_PIECE_COPY (32 * 1024)
#define FC_BLOCK_COPY (8 * 1024)

/* Bytes of a result from which on what comes next is fetched, and from which on it is written past the caches: of what is
 * turned both at once, and earlier where its rows, of which many are written at a time, meet in a few sets of the caches. */
#define FC_FETCH_COPY (1 << 20)
#ifndef FC_STREAM_COPY
#define FC_STREAM_COPY (64 << 20)
#endif
#ifndef FC_STREAM_TURNED
#define FC_STREAM_TURNED (8 << 20)
#endif
#define FC_ALIASED 4096

/* Of a block that is turned: rows at most, columns of which there are a multiple, and elements where what comes next is fetched,
 * as it is within a block. */
#define FC_TURNED_ROWS 512
#define FC_TURNED_COLUMNS 64
#define FC_PIECE_TURNED (128 * 1024)

/* Rows that are too few to be turned, or to be worth a block. */
#define FC_FEW_ROWS 5

/* A segment that is shorter is copied after the others. */
#define FC_SHORT 8

/* Positions of an axis that is padded at most: there is a table of them. */
#define FC_MOST_PADDED (1 << 24)

enum { RANK = 8, AXES = RANK + 2, SUMS = 256 };

/* An axis of the result, its strides in elements. Position i is at i from in x; or, with a table, it is the sum of what is at
 * at[first[i]] to at[first[i + 1] - 1]: the value of the padding where that is nothing. */
typedef struct axis {
  int64_t size, from, out;
  int64_t *first, *at;
  int number;                 /* in the description: sums are added in its order */
} axis;

/* Positions of an axis that lie in steps in x too, from that of each of count places on. */
typedef struct segment {
  int64_t begin, length, count;
  const int64_t *at;
  int number;                 /* of the axis */
} segment;

/* The last three axes are those of a block: planes, rows and columns. There may be some of size 1 to make them three. */
typedef struct copy_plan {
  fc_plan head;
  void (*copy)(const fc_copy *t), (*fill)(const fc_copy *t);
  const fc_kernels *kn, *wide; /* of x; of sums, to the result's type */
  int rank, fetch, stream;
  axis axes[AXES];
  int64_t x0, out0;            /* where position 0 of all axes is */
  int64_t x_es, out_es, value;
  segment *segments[2];        /* of rows and of columns */
  int64_t nsegments[2];
  int64_t block[3], blocks[3]; /* planes, rows and columns of a block, and how many such */
  int64_t units, piece;        /* blocks in all, and of a piece */
} copy_plan;

typedef struct copy_job {
  const copy_plan *plan;
  const char *x;
  char *out;
} copy_job;

/* ---- where elements come from ---- */

/* The position in x of one of the padded array, which begins `before` positions earlier; -1 if it is the padding's value. */
static int64_t source(int mode, int64_t p, int64_t size) {
  switch (mode) {
  case FC_PAD_REFLECT: return p < 0 ? -p : p < size ? p : 2 * (size - 1) - p;
  case FC_PAD_REPLICATE: return p < 0 ? 0 : p < size ? p : size - 1;
  case FC_PAD_CIRCULAR: return p < 0 ? p + size : p < size ? p : p - size;
  default: return p >= 0 && p < size ? p : -1;
  }
}

/* The table of an axis: of the padded array, or, backward, of x, to which the padded one's positions are added. */
static int tabulate(axis *a, int mode, int backward, int64_t size, int64_t before, int64_t padded) {
  const int64_t most = backward ? padded : a->size;
  a->first = calloc((size_t)a->size + 2, sizeof *a->first);
  a->at = malloc((size_t)fc_max(most, 1) * sizeof *a->at);
  if (!a->first || !a->at) return FC_ERROR_MEMORY;
  int64_t *next = a->first + 1; /* where the next place of each position goes: counted, then added up */
  for (int64_t p = 0; p < padded; p++) {
    const int64_t from = source(mode, p - before, size);
    if (from >= 0) next[1 + (backward ? from : p)]++;
  }
  for (int64_t i = 0; i < a->size; i++) next[i + 1] += next[i];
  for (int64_t p = 0; p < padded; p++) {
    const int64_t from = source(mode, p - before, size);
    if (from >= 0) a->at[next[backward ? from : p]++] = (backward ? p : from) * a->from;
  }
  return FC_OK;
}

/* The segments of an axis whose every position stands for `unit` elements, one after the other in both arrays. */
static int cut(const axis *a, int64_t unit, int64_t step, segment **segments, int64_t *count) {
  static const int64_t begin = 0;
  segment *s = *segments = malloc((size_t)(a->first ? a->size : 1) * sizeof *s);
  if (!s) return FC_ERROR_MEMORY;
  *count = 1;
  *s = (segment){0, a->size, 1, &begin, a->number};
  for (int64_t i = 0; a->first && i < a->size; i++) {
    const segment here = {i * unit, unit, a->first[i + 1] - a->first[i], a->at + a->first[i], a->number};
    segment *last = s + *count - 1;
    if (i == 0)
      *s = here;
    else if (last->count == here.count &&
             (here.count == 0 || (here.count == 1 && last->at[0] + last->length * step == here.at[0])))
      last->length += unit;
    else
      s[(*count)++] = here;
  }
  return FC_OK;
}

/* ---- which axes are one ---- */

static int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

/* From its end on: for an axis without a table, both arrays can be walked so. */
static void turn(copy_plan *p, axis *a) {
  p->x0 += (a->size - 1) * a->from;
  p->out0 += (a->size - 1) * a->out;
  a->from = -a->from;
  a->out = -a->out;
}

static int adjoin(const axis *outer, const axis *inner) {
  return outer->out == inner->out * inner->size && outer->from == inner->from * inner->size;
}

/* Axes in the order of the result's strides, the longest first; those that adjoin as one. */
static void arrange(copy_plan *p) {
  for (int i = 1; i < p->rank; i++)
    for (int k = i; k > 0 && distance(p->axes[k - 1].out) < distance(p->axes[k].out); k--) {
      const axis a = p->axes[k];
      p->axes[k] = p->axes[k - 1];
      p->axes[k - 1] = a;
    }
  int n = 0;
  for (int i = 0; i < p->rank; i++) {
    axis a = p->axes[i];
    if (!a.first && a.out < 0) turn(p, &a);
    if (n && !a.first && !p->axes[n - 1].first && adjoin(&p->axes[n - 1], &a)) {
      a.size *= p->axes[n - 1].size;
      n--;
    }
    p->axes[n++] = a;
  }
  memset(p->axes + n, 0, (size_t)(AXES - n) * sizeof *p->axes); /* a table has one owner */
  while (n < 2) {                                                 /* rows and columns there are */
    memmove(p->axes + 1, p->axes, (size_t)n * sizeof *p->axes);
    p->axes[0] = (axis){.size = 1};
    n++;
  }
  p->rank = n;
}

/* Where columns are no neighbours in x, rows are the axis along which there are, so that squares can be turned; where few are,
 * and where rows are few and short, the next axis that is longer. */
static void choose_rows(copy_plan *p) {
  const int last = p->rank - 1;
  const axis *columns = &p->axes[last];
  int rows = last - 1;
  if (!columns->first && distance(columns->from) > 1)
    for (int i = 0; i < last; i++) {
      const axis *a = &p->axes[i];
      if (!a->first && distance(a->from) == 1 && (a->size >= FC_FEW_ROWS || a->size == distance(columns->from))) rows = i;
    }
  if (rows == last - 1 && p->axes[rows].size < FC_FEW_ROWS && p->axes[rows].size != distance(columns->from) &&
      p->axes[rows].size * columns->size < FC_FEW_ROWS * FC_TURNED_COLUMNS)
    for (int i = 0; i < last - 1; i++)
      if (!p->axes[i].first && p->axes[i].size >= FC_FEW_ROWS) rows = i;
  axis a = p->axes[rows];
  if (!a.first && a.from < 0) turn(p, &a);
  memmove(p->axes + rows, p->axes + rows + 1, (size_t)(last - 1 - rows) * sizeof a);
  p->axes[last - 1] = a;
}

/* Rows and columns in segments. An axis that is padded and the columns may be one. */
static int segment_axes(copy_plan *p) {
  axis *columns = &p->axes[p->rank - 1], *padded = columns - 1;
  int64_t unit = 1;
  if (padded->first && !columns->first && adjoin(padded, columns)) {
    unit = columns->size;
    padded->from = columns->from;
    padded->out = columns->out;
    columns = padded;
    if (--p->rank < 2) {
      p->axes[1] = p->axes[0];
      p->axes[0] = (axis){.size = 1};
      p->rank = 2;
      columns = padded + 1;
    }
  }
  int status = cut(columns, unit, columns->from, &p->segments[1], &p->nsegments[1]);
  columns->size *= unit;
  axis *rows = columns - 1;
  if (!status) status = cut(rows, 1, rows->from, &p->segments[0], &p->nsegments[0]);
  if (p->rank == 2 || rows[-1].first) { /* planes are even */
    rows[2] = *columns;
    rows[1] = *rows;
    *rows = (axis){.size = 1};
    p->rank++;
  }
  return status;
}

static void cut_pieces(copy_plan *p, int64_t bytes) {
  const axis *sizes = &p->axes[p->rank - 3];
  p->fetch = bytes >= FC_FETCH_COPY;
  p->stream = bytes >= FC_STREAM_COPY;
  if (distance(sizes[2].from) > 1 && sizes[1].from == 1) {
    const int64_t row = distance(sizes[1].out) * p->out_es;
    if (sizes[1].size > 4) p->fetch = p->stream = bytes >= (row % FC_ALIASED ? FC_STREAM_TURNED : FC_FETCH_COPY);
    p->block[1] = fc_min(sizes[1].size, FC_TURNED_ROWS);
    p->block[2] = (p->stream ? FC_PIECE_TURNED : FC_PIECE_COPY) / p->block[1] / FC_TURNED_COLUMNS * FC_TURNED_COLUMNS;
  } else {
    p->block[2] = FC_PIECE_COPY;
    p->block[1] = fc_max(1, FC_BLOCK_COPY / sizes[2].size);
  }
  p->units = 1;
  int64_t elements = 1;
  for (int i = 2; i >= 0; i--) {
    p->block[i] = fc_min(i ? p->block[i] : fc_max(1, FC_BLOCK_COPY / elements), sizes[i].size);
    p->blocks[i] = fc_div_up(sizes[i].size, p->block[i]);
    p->units *= p->blocks[i];
    elements *= p->block[i];
  }
  for (int i = 0; i < p->rank - 3; i++) p->units *= p->axes[i].size;
  p->piece = fc_max(1, FC_PIECE_COPY / elements);
}

/* ---- one block ---- */

/* What a block reads of x, one element of it: `first`, and for each of these axes one of several places. */
typedef struct places {
  int64_t first;
  int empty, several;
  const segment *axes[RANK];
} places;

/* Of one axis more, which is at this segment's begin. */
static inline void add_places(places *s, const segment *of) {
  if (of->count == 1)
    s->first += of->at[0];
  else if (of->count == 0)
    s->empty++;
  else
    s->axes[s->several++] = of;
}

/* The same, axes as the description has them. */
static places in_order(const places *given) {
  places s = *given;
  for (int i = 1; i < s.several; i++)
    for (int k = i; k > 0 && s.axes[k - 1]->number > s.axes[k]->number; k--) {
      const segment *a = s.axes[k];
      s.axes[k] = s.axes[k - 1];
      s.axes[k - 1] = a;
    }
  return s;
}

/* sums[i] = the sum of all that elements `step` apart receive, in the order of the description's axes. */
static void add_up(const copy_job *j, const places *s, int64_t first, int64_t step, int64_t count, double *sums) {
  const copy_plan *p = j->plan;
  int64_t index[RANK] = {0};
  memset(sums, 0, (size_t)count * sizeof *sums);
  for (int i = 0; i >= 0;) {
    int64_t from = first;
    for (int k = 0; k < s->several; k++) from += s->axes[k]->at[index[k]];
    p->kn->copy_add(sums, j->x + from * p->x_es, step, count);
    for (i = s->several - 1; i >= 0 && ++index[i] == s->axes[i]->count; i--) index[i] = 0;
  }
}

/* Planes, rows and columns that lie in steps in x and in out. */
static void block(const copy_job *j, const places *s, int64_t out, int64_t planes, int64_t rows, int64_t count) {
  const copy_plan *p = j->plan;
  const axis *of = &p->axes[p->rank - 3];
  fc_copy t = {.from = j->x + s->first * p->x_es,
               .out = j->out + out * p->out_es,
               .planes = planes,
               .rows = rows,
               .count = count,
               .from_plane = of[0].from,
               .from_row = of[1].from,
               .from_step = of[2].from,
               .out_plane = of[0].out,
               .out_row = of[1].out,
               .out_step = of[2].out,
               .fetch = p->fetch,
               .stream = p->stream};
  if (s->empty) {
    t.from = &p->value;
    t.from_plane = t.from_row = t.from_step = t.fetch = 0;
    p->fill(&t);
    return;
  }
  if (!s->several) {
    p->copy(&t);
    return;
  }
  double sums[SUMS];
  const places sorted = in_order(s);
  for (int64_t row = 0; row < planes * rows; row++)
    for (int64_t i = 0; i < count; i += SUMS) {
      const int64_t n = fc_min(SUMS, count - i), plane = row / rows, r = row % rows;
      add_up(j, &sorted, s->first + plane * of[0].from + r * of[1].from + i * of[2].from, of[2].from, n, sums);
      const fc_copy back = {.from = sums,
                            .out = j->out + (out + plane * of[0].out + r * of[1].out + i * of[2].out) * p->out_es,
                            .planes = 1,
                            .rows = 1,
                            .count = n,
                            .from_step = 1,
                            .out_step = of[2].out};
      (p->x_es == 4 ? p->wide->convert : p->wide->copy)(&back);
    }
}

/* Of count segments the one that position i is in. */
static int64_t find(const segment *s, int64_t count, int64_t i) {
  int64_t low = 0;
  for (int64_t high = count; high - low > 1;) {
    const int64_t middle = (low + high) / 2;
    if (s[middle].begin <= i)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/* The block of these numbers, where the other axes are at what is in s, in out at `out`. */
static void unit(const copy_job *j, places *s, int64_t out, const int64_t number[3]) {
  const copy_plan *p = j->plan;
  const axis *of = &p->axes[p->rank - 3];
  int64_t begin[3], end[3];
  for (int i = 0; i < 3; i++) {
    begin[i] = number[i] * p->block[i];
    end[i] = fc_min(begin[i] + p->block[i], of[i].size);
  }
  const int64_t first = s->first + begin[0] * of[0].from;
  const int empty = s->empty, several = s->several;
  const segment *rows = p->segments[0], *columns = p->segments[1];
  const int64_t row = find(rows, p->nsegments[0], begin[1]), column = find(columns, p->nsegments[1], begin[2]);
  /* What is long comes first, and brings along the cache lines of the rest. */
  for (int rest = 0; rest < 2; rest++)
    for (const segment *r = rows + row; r < rows + p->nsegments[0] && r->begin < end[1]; r++)
      for (const segment *c = columns + column; c < columns + p->nsegments[1] && c->begin < end[2]; c++) {
        if ((r->length < FC_SHORT || c->length < FC_SHORT) != rest) continue;
        const int64_t r0 = fc_max(r->begin, begin[1]), r1 = fc_min(r->begin + r->length, end[1]);
        const int64_t c0 = fc_max(c->begin, begin[2]), c1 = fc_min(c->begin + c->length, end[2]);
        s->first = first + (r0 - r->begin) * of[1].from + (c0 - c->begin) * of[2].from;
        s->empty = empty;
        s->several = several;
        add_places(s, r);
        add_places(s, c);
        block(j, s, out + begin[0] * of[0].out + r0 * of[1].out + c0 * of[2].out, end[0] - begin[0], r1 - r0, c1 - c0);
      }
}

static void piece(void *ctx, int64_t number, int worker) {
  (void)worker;
  const copy_job *j = ctx;
  const copy_plan *p = j->plan;
  const int outer = p->rank - 3;
  const int64_t begin = number * p->piece, end = fc_min(begin + p->piece, p->units);
  int64_t index[AXES], rest = begin;
  segment at[AXES];
  for (int i = p->rank - 1; i >= 0; i--) {
    const int64_t size = i < outer ? p->axes[i].size : p->blocks[i - outer];
    index[i] = rest % size;
    rest /= size;
  }
  for (int64_t u = begin; u < end; u++) {
    places s;
    s.first = p->x0;
    s.empty = s.several = 0;
    int64_t out = p->out0;
    for (int i = 0; i < outer; i++) {
      const axis *a = &p->axes[i];
      out += index[i] * a->out;
      if (a->first) {
        const int64_t *first = a->first + index[i];
        at[i] = (segment){index[i], 1, first[1] - first[0], a->at + first[0], a->number};
        add_places(&s, &at[i]);
      } else {
        s.first += index[i] * a->from;
      }
    }
    unit(j, &s, out, index + outer);
    for (int i = p->rank - 1; i >= 0 && ++index[i] == (i < outer ? p->axes[i].size : p->blocks[i - outer]); i--) index[i] = 0;
  }
}

/* ---- plans ---- */

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  (void)workspace;
  const copy_plan *p = (const copy_plan *)plan;
  copy_job j = {p, arrays[FC_X], arrays[FC_OUT]};
  return fc_parallel_for(nthreads, fc_div_up(p->units, p->piece), piece, &j);
}

static void destroy(fc_plan *plan) {
  copy_plan *p = (copy_plan *)plan;
  for (int i = 0; i < AXES; i++) {
    free(p->axes[i].first);
    free(p->axes[i].at);
  }
  for (int i = 0; i < 2; i++) free(p->segments[i]);
  free(p);
}

static const fc_operator copy = {.destroy = destroy, .run = run};

/* Sizes and strides of x and of out, and whether there is such padding. */
static int check(fc_copy_desc *d, int64_t padded[RANK]) {
  if (!fc_between(d->rank, 0, RANK) || !fc_between(d->mode, FC_PAD_CONSTANT, FC_PAD_CIRCULAR) ||
      !fc_between(d->direction, FC_FWD, FC_BWD_INPUT) || (d->direction == FC_BWD_INPUT && d->types.x != d->types.y) ||
      !fc_elements(d->size, d->rank))
    return 0;
  for (int i = 0; i < d->rank; i++) {
    const int64_t size = d->size[i], most = fc_max(d->before[i], d->after[i]);
    if (!fc_between(d->before[i], -FC_MOST, FC_MOST) || !fc_between(d->after[i], -FC_MOST, FC_MOST)) return 0;
    if ((d->mode == FC_PAD_REFLECT && most >= size) || (d->mode == FC_PAD_CIRCULAR && most > size)) return 0;
    padded[i] = size + d->before[i] + d->after[i];
    /* What is cropped at one end and repeated at the other begins in x. */
    if (d->mode != FC_PAD_CONSTANT && fc_min(d->before[i], d->after[i]) < -size) return 0;
  }
  if (!fc_elements(padded, d->rank)) return 0;
  const int backward = d->direction == FC_BWD_INPUT;
  const int64_t *out_size = backward ? d->size : padded;
  return fc_settle(d->x_stride, backward ? padded : d->size, d->rank) && fc_settle(d->out_stride, out_size, d->rank) &&
         fc_apart(d->out_stride, out_size, d->rank);
}

static int describe(copy_plan *p, const fc_copy_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  fc_copy_desc d = *given;
  /* What is read and what is written may be of two types. */
  const fc_types from = {d.types.x, d.types.w, d.types.acc, d.types.x}, to = {d.types.y, d.types.y, d.types.y, d.types.y};
  const fc_kernels *of_out;
  int status = fc_find_kernels(&p->kn, d.isa, &from);
  if (!status) status = fc_find_kernels(&of_out, d.isa, &to);
  if (status) return status;
  int64_t padded[RANK], elements = 1;
  if (!check(&d, padded)) return FC_ERROR_ARGUMENT;
  const int backward = d.direction == FC_BWD_INPUT;
  p->wide = fc_kernels_of(d.isa, FC_F64);
  p->copy = d.types.x == d.types.y ? p->kn->copy : p->kn->convert;
  p->fill = of_out->copy;
  p->x_es = fc_bytes(d.types.x);
  p->out_es = fc_bytes(d.types.y);
  memcpy(&p->value, d.value, sizeof p->value);
  for (int i = 0; i < d.rank; i++) {
    const int64_t before = backward ? -d.before[i] : d.before[i], after = backward ? -d.after[i] : d.after[i];
    axis a = {.size = backward ? d.size[i] : padded[i], .from = d.x_stride[i], .out = d.out_stride[i], .number = i};
    elements *= a.size;
    if ((backward && d.mode != FC_PAD_CONSTANT && (before || after)) || before > 0 || after > 0) {
      if (fc_max(d.size[i], padded[i]) > FC_MOST_PADDED) return FC_ERROR_REFUSED;
      status = tabulate(&a, d.mode, backward, d.size[i], d.before[i], padded[i]);
      p->axes[p->rank++] = a; /* whatever came of it: destroy frees its tables */
      if (status) return status;
    } else {
      p->x0 -= before * a.from;
      if (a.size > 1) p->axes[p->rank++] = a;
    }
  }
  p->head.serial = elements < FC_SERIAL_COPY;
  arrange(p);
  choose_rows(p);
  status = segment_axes(p);
  cut_pieces(p, elements * p->out_es);
  return status;
}

int fc_plan_copy(const fc_copy_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  copy_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  p->head = (fc_plan){.does = &copy, .algorithm = "blocks", .needs = FC_BIT(FC_X) | FC_BIT(FC_OUT)};
  const int status = describe(p, d);
  if (status) {
    destroy(&p->head);
    return status;
  }
  *plan = &p->head;
  return FC_OK;
}
