/* What the planners (ISA-independent) and the kernel bodies (compiled once per ISA and dtype) agree on. */
#ifndef FC_KERNELS_H
#define FC_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fastconv.h"
#include "pool/pool.h"
#include "reduce/reduce.h"

/* A lane of a panel that lies in the padding: it packs as zeros. */
#define FC_PAD INT64_MIN

/* The largest tile of any ISA and dtype: what fixed-size tables on the stack are made for. */
#define FC_MAX_LANES 64

/* The most bytes that the lanes of a panel take at one depth. */
#define FC_MAX_TILE 128

#define FC_ALIGN 64

/* A matrix in memory: element (i, j) at p[(roff ? roff[i] : i rs) + (coff ? coff[j] : j cs)], in elements.
 * With coff, crun[j] says how many columns from j on lie next to each other. */
typedef struct fc_view {
  void *p;
  int64_t rs, cs;
  const int64_t *roff, *coff;
  const int32_t *crun;
} fc_view;

/* act(alpha acc + beta add + bias), applied when the last block of the reduction is written. */
typedef struct fc_epilogue {
  double alpha, beta;
  const void *bias_row, *bias_col;
  int act;
  double p0, p1;
} fc_epilogue;

/* Rows of an operand where they are: row i, element k is at[k / run * count + i][k % run]. */
typedef struct fc_rows {
  const void *const *at;
  int64_t run, count;
} fc_rows;

/* One cache block of a product: m x n tiles over k. */
typedef struct fc_block {
  int64_t m, n, k;
  const void *a, *b;         /* packed panels of mr (nr) lanes, [k][lanes], one after another */
  const fc_rows *rows;       /* if not NULL, instead of a: from row i0, element k0 on */
  int64_t i0, k0;
  fc_view out, add;          /* add.p may be NULL */
  const fc_epilogue *ep;     /* bias pointers at this block's first row / column */
  int first, last;           /* first: out is not read; last: the epilogue is applied */
  /* dots, mix: a and b as they are, rows so far apart; a's elements (of mix) by steps. block: of a and b in place lanes lie
   * next to each other instead of in panels, and the next k's a_step (b_row) further. */
  int64_t a_row, a_step, b_row;
  int a_in_place, b_in_place;
  const char *next[2];       /* block: what of a and b is read after this block, so many bytes; NULL and 0 if unknown */
  int64_t ahead[2];
} fc_block;

/* Rows that dots and mix take at most; rows of b that dots passes through at a time. */
#define FC_FEW 16
#define FC_FEW_MIXED 24
#define FC_DOTS 12

/* Planes of the result that the direct kernels make at once: 3 x 4 accumulators. */
#define FC_PLANES 3

/* Rows of phase-split planes and the taps over them: what the direct (plane) kernels walk. */
typedef struct fc_plane {
  const void *src;           /* padded rows; a tap is at src[toff[t] + row + column] */
  const int64_t *toff;       /* ntap offsets */
  int64_t ntap;
  const void *wei;           /* ntap weights for each plane of the result */
  int64_t rows, cols;        /* what is produced */
  int64_t src_row;           /* elements between the rows of src that two output rows start at */
  void *out;
  int64_t out_row, out_plane;
  int planes;                /* 1 to FC_PLANES */
} fc_plane;

/* Rows in runs: element k of run r of row i is a[a_off[r] + i a_row + k a_step], its vectors of channels are at
 * b[(b_off[r] + k) b_step]. out: where the products go, m rows and n channels, at most the lanes of a register tile; a
 * whole tile of them is read from b, or one vector if that is enough. */
typedef struct fc_lines {
  const void *a, *b;
  const int64_t *a_off, *b_off;
  int64_t a_row, a_step, b_step;
  int64_t nrun, run;
  const char *next;          /* what is read later, so many bytes */
  int64_t ahead;
  fc_block out;
} fc_lines;

/* Results along a run for which a depthwise kernel keeps its table of addresses. */
#define FC_DEPTH_RUN 128

/* Results of a line, and lines, that a depthwise kernel has in registers at once at most. */
#define FC_DEPTH_TILE 7
#define FC_DEPTH_LINES 4

/* Taps of a row, and slices, that the tiles of a depthwise kernel know at most. */
#define FC_DEPTH_TAPS 5
#define FC_DEPTH_SLICES 7

/* A row of taps of a depthwise layer: which of the source's rows it reads, from that of its line on, and its weights. */
typedef struct fc_depth_row {
  int64_t at;
  const void *wei;
} fc_depth_row;

/* Lines of a depthwise layer's results, each of them a run of rows of lanes, which are channels. Result q of line l reads of
 * each row, line_step l further in the source, the positions first + q step + x spacing, x < taps. */
typedef struct fc_depth {
  int64_t lanes, count, lines;
  int64_t shift;             /* lanes that all vectors but the first begin earlier: below lanes of a vector */
  const void *const *src;    /* where position 0 of each row of the source is, NULL in the padding */
  int64_t sources, line_step;
  const fc_depth_row *row;
  int64_t rows, taps, step, spacing, first;
  int64_t slices;            /* that the rows lie in, as many in each */
  int even;                  /* a slice's rows follow each other in the source, spacing is 1, and line_step is step */
  int64_t length, pixel;     /* of a source row: positions (those beyond are padding), elements from one to the next */
  const void *zeros;         /* so many lanes, FC_DEPTH_TAPS - 1 pixels further too */
  void *raw;                 /* scratch: so many lanes of FC_DEPTH_LINES lines */
  const void **at;           /* scratch: sources times fc_depth_columns addresses */
  int64_t block;             /* elements between the weights, or sums, of one vector of lanes and the next */
  void *out;                 /* depth: the results; depth_weight: dy */
  const void *add, *bias;
  int64_t out_step, out_line, add_step, add_line;
  const fc_act *act;
  void *sums;                /* depth_weight: for each vector of lanes, row and tap a vector */
} fc_depth;

/* Pixels of a strip of vectors, as planes of channels: act(strip + add + bias). */
typedef struct fc_depth_planes {
  const void *strip;
  int lane, channels;        /* the lanes that are written, from that on */
  int64_t count, plane, add_plane; /* pixels; elements between planes */
  void *out;
  const void *add, *bias;
  const fc_act *act;
} fc_depth_planes;

/* The positions of a row that so many results read, with those between. */
static inline int64_t fc_depth_columns(int64_t count, int64_t taps, int64_t step, int64_t spacing) {
  return (count - 1) * step + (taps - 1) * spacing + 1;
}

/* Lines of a plane of a depthwise layer. Column c of line l reads tap (k, x) at row top + l step + k spacing[0], column
 * left + c across + x spacing[1] of the source, which has high rows and wide columns; across is 1 or 2. */
typedef struct fc_depth_wide {
  const void *src, *zeros, *wei; /* zeros: a row of them; wei: height times taps numbers */
  int64_t src_row, high, wide, top, left;
  int64_t height, taps, step, across, spacing[2];
  int64_t lines, count;
  void *out;
  const void *add, *bias;    /* bias: one number; both may be NULL */
  int64_t out_line, add_line;
  const fc_act *act;
} fc_depth_wide;

/* Rows of an image, VL channels of each pixel: strip[(i columns + j) VL] is pixel (top + i, left + j), zeros beyond the
 * image and for missing channels. */
typedef struct fc_strip {
  void *strip;
  int64_t columns, rows, count; /* pixels from one row of the strip to the next; rows, pixels a row to fill */
  const void *src;              /* the image's first pixel, first of the channels */
  int channels;
  int64_t high, wide, top, left;
  int64_t channel, row, pixel;  /* strides */
} fc_strip;

/* Tiles of one row that Winograd's transforms go through, VL channels at a time. Pixels lie in strips of vectors, columns
 * of them a row, step of them from tile to tile; transformed values in planes: element f of tile n at
 * plane[n tile + f frequency]. Filters have taps rows and columns, step + taps = 7; from filter to filter of wino_weights there
 * are columns taps. */
typedef struct fc_wino {
  void *strip, *plane;
  int64_t columns, step, tiles, tile, frequency;
  int64_t from;                 /* strides of 2: where tile 0 is among those of a plane; where, in rows and columns, the */
  int single[2];                /* middle tap's pixels lie, or its results: between those of the others, or before */
} fc_wino;

/* Points of a one-dimensional Winograd transform, at most. */
#define FC_LINE_POINTS 10

/* Pixels, pixel elements apart: to[i] is the sum of the magnitudes of so many channels, channel elements apart. */
typedef struct fc_norms {
  const void *src;
  int64_t pixel, channel, count, channels;
  void *to;
} fc_norms;

/* Results of a tile along a side, at most. */
#define FC_LOOK_STEP 9

/* A side of a tile: step results of side pixels, spread apart. Pixel k is read by the results whose bits readers[k] has;
 * middle: of each result's pixels one. */
typedef struct fc_look_side {
  int64_t step, side, spread;
  int readers[FC_LINE_POINTS], middle[FC_LOOK_STEP];
} fc_look_side;

/* Tiles of one row, the first one's pixels from column first on, then hop columns further for each. whole, most: of each column
 * the sum over the tile's rows, of which so many were read, and the largest; windows: for each row of results the sum over the
 * rows that it reads, row elements apart. Where the sum over a tile is not within low and high, or one pixel holds more than 8
 * parts in 9 of it, all its results are flagged; else those that hold less than a part of 1 / ratio. left: columns of results
 * that exist. count: of flags that are new.
 */
typedef struct fc_look {
  const fc_look_side *side;
  const void *whole, *most, *windows;
  int64_t read, row, size, first, hop, tiles, left;
  int rows;
  double low, high, ratio;
  unsigned char *flags;
  const int64_t *flag_at;     /* of each row of results; flag_step from column to column */
  int64_t flag_step;
  int64_t *count;
} fc_look;

/* Tiles of count values of vectors, and their values at the points, by a matrix of a row a point, FC_LINE_POINTS apart:
 * element i of tile n is at from[i from_element + n from_tile], to likewise. */
typedef struct fc_line {
  const void *from, *matrix;
  void *to;
  int64_t from_element, from_tile, to_element, to_tile, tiles;
  int points, count;
} fc_line;

/* Rows of an elementwise function: so many numbers each, step apart (1: neighbours, 0: one and the same). */
typedef struct fc_map {
  int op, operands;
  fc_act act;
  int64_t rows, count;
  const void *from[3];
  int64_t row[3], step[3];
  void *out;
  int64_t out_row, out_step;
  /* Of dropout: where an element's random number is, as if those were an array; the largest that drops it, and what the others
   * are multiplied by. */
  uint64_t seed, offset;
  int64_t place, place_row, place_step;
  uint32_t dropped;
  double scale;
} fc_map;

/* Rows of a step of an optimizer: the parameter, its gradient, and what is remembered; NULL where that is not. */
typedef struct fc_update {
  int rule, nesterov;
  const double *numbers;
  int64_t rows, count;
  void *array[FC_UPDATE_ARRAYS];
  int64_t row[FC_UPDATE_ARRAYS], step[FC_UPDATE_ARRAYS];
} fc_update;

/* Rows of losses, or of their gradients: of x, target, weight, pos_weight and dy, NULL where there is none. Where out is NULL the
 * losses are added up in sum. outside: whether some x has no loss. */
enum { FC_LOSS_OPERANDS = 5 };
typedef struct fc_loss {
  int kind;
  double p0;
  int64_t rows, count;
  const void *from[FC_LOSS_OPERANDS];
  int64_t row[FC_LOSS_OPERANDS], step[FC_LOSS_OPERANDS];
  void *out;
  int64_t out_row, out_step;
  double sum;
  int outside;
} fc_loss;

/* Planes of rows of count elements, step apart (1: neighbours; from: 0: one and the same), to be copied. fetch: they come from
 * beyond the caches; stream: long rows go past them. */
typedef struct fc_copy {
  const void *from;
  void *out;
  int64_t planes, rows, count;
  int64_t from_plane, from_row, from_step, out_plane, out_row, out_step;
  int fetch, stream;
} fc_copy;

/* A tile of a block that is turned, and the first column of the band that it is in. */
typedef struct fc_copy_at {
  int64_t row, column, column0;
} fc_copy_at;

/* What numbers are converted to. */
typedef double fc_other_f32;
typedef float fc_other_f64;

/* The sum of taps arrays, the one at from + place[k] times weight[k], run after run. A run is length neighbours, run i of each
 * array step elements after the last, or at[i] after the first. */
typedef struct fc_resize_rows {
  const void *from, *weight;
  const int64_t *place;
  int64_t taps, runs, length, step;
  const int64_t *at;
  void *to;
} fc_resize_rows;

/* A term of a vector of elements: lane l is element first + lane[l] of a line, lane[l] being less than two vectors. wide: than
 * one in some lanes; ragged: it has weight 0 in some lanes, for which there is no such element. */
typedef struct fc_resize_term {
  int32_t first;
  int16_t wide, ragged;
} fc_resize_term;

/* Rows of a plane, from that number on: row r is the sum of what is at row_place[k], for k from row_first[r] to row_first[r + 1],
 * times row_weight[k], of which `sum` says what a row reads, into `line`; its vector v of elements is then the sum of the terms
 * from first[v] to first[v + 1] of that line, each with vectors of lanes and of weights. plain: of all elements there is one
 * term, of weight 1. A line has two vectors at least, of which what lies behind its elements is read but has no weight. */
typedef struct fc_resize_lines {
  fc_resize_rows sum;
  const int32_t *row_first;
  const int64_t *row_place;
  const void *row_weight;
  void *to;
  int64_t rows, to_row, count;
  const int32_t *first;
  const fc_resize_term *terms;
  const int32_t *lane;
  const void *weight;
  int plain;
} fc_resize_lines;

/* Pixels of so many lanes, which are neighbours: pixel o is the sum, over t from first[o] to first[o + 1], of weight[t] times
 * the pixel number index[t] of from; or of row_weight[0] times that and row_weight[1] times the same of other, if that is not
 * NULL: then each is the sum of one or two. */
typedef struct fc_resize_pixels {
  const void *from, *weight, *other, *row_weight;
  const int32_t *first, *index;
  void *to;
  int64_t lanes, count, from_step, to_step;
} fc_resize_pixels;

/* One ISA's kernels for one dtype. kernels.def is the list; this struct, the tables and the tests come from it. */
typedef struct fc_kernels {
  const char *isa;
  int vl, mr, nr;            /* lanes of a vector; the register tile */
  int kc, mc;                /* cache blocking: depth, rows */
#define FC_KERNEL(name, args) void(*name) args;
#include "kernels/kernels.def"
#undef FC_KERNEL
} fc_kernels;

/* The kernels of an ISA (its number in fc_isa_name's order) that read, add and write one type; NULL where there are none, or
 * this CPU cannot run them. */
const fc_kernels *fc_kernels_of(int isa, int type);

static inline int64_t fc_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t fc_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t fc_div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t fc_round_up(int64_t a, int64_t b) { return fc_div_up(a, b) * b; }

static inline void *fc_aligned(void *p) { return (void *)(((uintptr_t)p + FC_ALIGN - 1) & ~(uintptr_t)(FC_ALIGN - 1)); }

#endif
