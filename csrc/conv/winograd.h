/* What the Winograd algorithms share: tiles of the result, and the patches of the image that they need. */
#ifndef FC_WINOGRAD_H
#define FC_WINOGRAD_H

#include "conv/conv.h"

/* Sides of a patch: 4 x 4 results of 3 x 3 taps, or 2 x 2 of 5 x 5. */
enum { FC_WINO_SIDE = 6, FC_WINO_FREQUENCIES = FC_WINO_SIDE * FC_WINO_SIDE, FC_WINO_TAPS = 25 };

/* Taps along the depth, at most. */
#define FC_WINO_DEPTH FC_CHOOSE_WINOGRAD_SLICES
/* With a stride of 2 a patch has values of its own, 9 a side, of which the first 5 belong to taps 0 and 2. */
enum { FC_WINO2_SIDE = 9, FC_WINO2_VALUES = FC_WINO2_SIDE * FC_WINO2_SIDE, FC_WINO2_PAIR = 5 };

/* Results of a tile along a side. */
static inline int64_t fc_wino_step(const fc_conv_plan *p) {
  return p->d.stride[1] == 2 && p->d.direction == FC_BWD_INPUT ? 8 : FC_WINO_SIDE + 1 - p->d.ker[1];
}

/* Along a dimension; its pixels from one result of a stride of 2 on. */
static inline fc_tile_side fc_wino_tile(const fc_conv_plan *p, int dimension) {
  if (dimension == 0) return (fc_tile_side){1, p->d.ker[0]};
  const int64_t back = p->d.direction == FC_BWD_INPUT, side = p->d.stride[1] == 1 ? FC_WINO_SIDE : back ? 5 : FC_WINO2_SIDE;
  return (fc_tile_side){fc_wino_step(p), side};
}

static inline int64_t fc_wino2_source(const fc_conv_plan *p, int dimension, int64_t result) {
  const int64_t pad = p->d.pad[dimension], odd = pad & 1;
  return p->d.direction == FC_BWD_INPUT ? result / 2 + (pad - odd) / 2 - !odd : 2 * result - pad;
}

/* Elements from one frequency of so many to the next: an odd number of lines, so that what a transform reads or writes at a
 * time, one line a frequency, does not meet in a few sets of the caches. */
static inline int64_t fc_wino_stride(int64_t elements, int64_t es) {
  return (fc_div_up(elements * es, FC_ALIGN) | 1) * FC_ALIGN / es;
}

/* Values of a patch that the filter of a frequency multiplies: high x wide, one after another. A filter of a stride of 2 has
 * five and one values a side, and the one multiplies four. */
typedef struct fc_wino_values {
  int64_t first;
  int high, wide;
} fc_wino_values;

static inline fc_wino_values fc_wino_values_of(const fc_conv_plan *p, int frequency) {
  const int y = frequency / FC_WINO_SIDE, x = frequency % FC_WINO_SIDE, single = FC_WINO2_SIDE - FC_WINO2_PAIR;
  if (p->d.stride[1] == 1) return (fc_wino_values){frequency, 1, 1};
  const int high = y < FC_WINO2_PAIR ? 1 : single, wide = x < FC_WINO2_PAIR ? 1 : single;
  return (fc_wino_values){FC_WINO2_SIDE * y + x * high, high, wide};
}

/* Tiles along a side. Results that have the same remainder by the dilation see no others' pixels: each remainder has tiles
 * of its own. The first so many of them, long, have one result more than the others, and tiles[1], not tiles[0]. */
typedef struct fc_wino_side {
  int64_t apart, size, longer, tiles[2], all;
} fc_wino_side;

static inline fc_wino_side fc_wino_side_of(int64_t size, int64_t apart, int64_t step) {
  const int64_t least = size / apart, longer = size % apart;
  const int64_t tiles[2] = {fc_div_up(least, step), fc_div_up(least + 1, step)};
  return (fc_wino_side){apart, size, longer, {tiles[0], tiles[1]}, longer * tiles[1] + (apart - longer) * tiles[0]};
}

/* Of tile number i: its first result, and how many tiles its remainder has from it on. */
static inline int64_t fc_wino_side_at(const fc_wino_side *s, int64_t i, int64_t step, int64_t *left) {
  const int64_t first = s->longer * s->tiles[1], of = s->tiles[i < first], from = i < first ? i : i - first;
  *left = of - from % of;
  return (i < first ? 0 : s->longer) + from / of + from % of * step * s->apart;
}

/* Tiles: rows and columns of an image; a slice of all images; all slices, one after another. */
typedef struct fc_wino_grid {
  int64_t step, images, slice, all;
  fc_wino_side high, wide;
} fc_wino_grid;

static inline fc_wino_grid fc_wino_tiles(const fc_conv_plan *p) {
  const int64_t step = fc_wino_step(p);
  const fc_wino_side high = fc_wino_side_of(p->dst_size[1], p->d.dil[1], step),
                     wide = fc_wino_side_of(p->dst_size[2], p->d.dil[2], step);
  const int64_t slice = p->d.n * high.all * wide.all;
  return (fc_wino_grid){step, p->d.n, slice, p->dst_size[0] * slice, high, wide};
}

/* Tiles in pieces: first whole ones, as many for each thread, then what is left, shared by them all. */
typedef struct fc_wino_cut {
  int64_t all, piece, whole, last, count;
} fc_wino_cut;

static inline fc_wino_cut fc_wino_cut_of(int64_t all, int64_t piece, int64_t tile, int nthreads) {
  nthreads = nthreads > 1 ? nthreads : 1;
  fc_wino_cut c = {.all = all, .piece = piece, .whole = all / piece / nthreads * nthreads};
  const int64_t left = all - c.whole * piece;
  c.last = fc_max(tile, fc_round_up(fc_div_up(left, nthreads), tile));
  c.count = c.whole + fc_div_up(left, c.last);
  return c;
}

/* Where piece number i starts; piece number count where all end. */
static inline int64_t fc_wino_cut_at(const fc_wino_cut *c, int64_t i) {
  return i < c->whole ? i * c->piece : fc_min(c->all, c->whole * c->piece + (i - c->whole) * c->last);
}

/* Pixels in a row of a strip for at most so many tiles, whose patches have side pixels and start step pixels apart. */
static inline int64_t fc_wino_columns(const fc_wino_grid *g, int64_t tiles, int64_t step, int64_t side) {
  return step * (fc_min(g->wide.tiles[g->wide.longer > 0], tiles) - 1) + side;
}

/* n tiles side by side, whose first result is at (row, column) of an image's slice. */
typedef struct fc_wino_run {
  int64_t slice, image, row, column, n;
} fc_wino_run;

static inline fc_wino_run fc_wino_run_at(const fc_wino_grid *g, int64_t tile, int64_t end) {
  const int64_t line = tile / g->wide.all;
  int64_t left;
  fc_wino_run r = {.slice = tile / g->slice,
                   .image = line / g->high.all % g->images,
                   .row = fc_wino_side_at(&g->high, line % g->high.all, g->step, &left)};
  r.column = fc_wino_side_at(&g->wide, tile % g->wide.all, g->step, &left);
  r.n = fc_min(left, end - tile);
  return r;
}

/* Why taps x taps filters are not applied so, by steps of stride; 0 where they can be. */
static inline const char *fc_wino_refuse_filters(const fc_conv_plan *p, int64_t taps, int64_t stride) {
  const fc_conv_desc *d = &p->d;
  const int slice = d->ker[0] == 1 && d->x_size[0] == 1 && d->y_size[0] == 1 && d->pad[0] == 0;
  if (d->ker[0] > FC_WINO_DEPTH || d->ker[1] != taps || d->ker[2] != taps || (stride == 2 && !slice))
    return taps == 3 && stride == 1 ? "the kernel is not 3x3" : "";
  if ((d->stride[0] != 1 && !slice) || d->stride[1] != stride || d->stride[2] != stride)
    return stride == 1 ? "the stride is not 1" : "the stride is not 2";
  if (stride == 2 && (d->dil[1] != 1 || d->dil[2] != 1)) return "the dilation is not 1";
  if (d->strict) return "strict precision takes direct algorithms only";
  return 0;
}

/* The parameter of an algorithm of stride 1 is its taps. */
static inline const char *fc_wino_refuse(const fc_conv_plan *p) { return fc_wino_refuse_filters(p, p->algorithm->parameter, 1); }
static inline const char *fc_wino2_refuse(const fc_conv_plan *p) { return fc_wino_refuse_filters(p, 3, 2); }

/* With fewer channels on either side, or tiles, the transforms cost more than they save; so do tiles that are mostly empty,
 * for which the direct algorithms would make fewer than twice as many products. */
static inline const char *fc_wino_slow(const fc_conv_plan *p) {
  const int channels = FC_CHOOSE_WINOGRAD_CHANNELS,
            tiles = p->d.packed ? FC_CHOOSE_WINOGRAD_TILES_PACKED : FC_CHOOSE_WINOGRAD_TILES;
  const int64_t all = fc_wino_tiles(p).all;
  if (p->src_channels < channels || p->dst_channels < channels) return "too few channels to pay for the transforms";
  if (all < tiles) return "too few tiles to pay for transforming the filters";
  if (p->d.n * fc_product3(p->dst_size) * p->d.ker[1] * p->d.ker[2] < 2 * FC_WINO_FREQUENCIES * all)
    return "the tiles are mostly empty";
  return 0;
}

/* The same where the stride is 2, which saves less. Implicit GEMM is at its best with the channels of a pixel contiguous. */
static inline const char *fc_wino2_slow(const fc_conv_plan *p) {
  const int forward = p->d.direction == FC_FWD, last = p->src_stride[1] == 1 && p->dst_stride[1] == 1;
  const int channels = !last                             ? FC_CHOOSE_STRIDED_CHANNELS
                       : p->d.direction == FC_BWD_WEIGHT ? FC_CHOOSE_STRIDED_CHANNELS_LAST_WEIGHT
                                                         : FC_CHOOSE_STRIDED_CHANNELS_LAST;
  const int tiles = forward && !p->d.packed ? FC_CHOOSE_STRIDED_TILES_FORWARD : FC_CHOOSE_STRIDED_TILES;
  if (fc_min(p->src_channels, p->dst_channels) < channels) return "too few channels to pay for the transforms";
  if (fc_wino_tiles(p).all < tiles) return "too few tiles to pay for transforming the filters";
  return 0;
}

/* Taps along the depth are numbered by what they read: number i reads slices fc_wino_shift after the result's. */
static inline int64_t fc_wino_tap(const fc_conv_plan *p, int64_t i) {
  const fc_axis *a = &p->phases[0].ax[0];
  return a->off[0] <= a->off[a->ntap - 1] ? i : a->ntap - 1 - i;
}

static inline int64_t fc_wino_shift(const fc_conv_plan *p, int64_t i) { return p->phases[0].ax[0].off[fc_wino_tap(p, i)]; }

/* So many of them are reduced at a time: their blocks of filters are packed one after another. */
int64_t fc_wino_together(const fc_conv_plan *p);

/* Patches that tiles read, each slice's once: for each tap tiles source and after, count of them, from patch number at on.
 * Tile i, from the first on, finds its patch for the tap at first + i, if from <= i < to: the others' are padding. */
typedef struct fc_wino_patch {
  int64_t source, count, at, first, from, to;
} fc_wino_patch;

/* Those of tiles t0..t1; returns how many patches. */
int64_t fc_wino_window(const fc_conv_plan *p, const fc_wino_grid *g, int64_t t0, int64_t t1, fc_wino_patch w[FC_WINO_DEPTH]);

/* How many there are at most, for so many tiles. */
int64_t fc_wino_window_most(const fc_conv_plan *p, const fc_wino_grid *g, int64_t tiles);

/* The products of tiles t0..t1 for all frequencies: patches of sc channels each, filters of columns lanes, and the results'
 * lanes, each so many elements from frequency to frequency. zeros: sc of them; at: for each tile and tap an address. */
typedef struct fc_wino_product {
  const fc_wino_patch *w;
  int64_t t0, t1, columns;
  const char *patches, *filters, *zeros;
  char *products;
  int64_t patch, patches_apart, filters_apart, product, products_apart;
  const void **at;
} fc_wino_product;

void fc_wino_multiply(const fc_conv_plan *p, const fc_wino_grid *g, const fc_wino_product *m);

/* Which tap of a slice is where in the filter that wino_weights transforms. */
void fc_wino_order(const fc_conv_plan *p, int order[FC_WINO_TAPS]);

/* Fills a strip, as wino_strip does, with pixels as far apart as the taps are. */
void fc_wino_strip(const fc_conv_plan *p, fc_strip s);

/* Transformed filters: elements of them all; making them; those of a frequency, packed in panels. */
int64_t fc_wino_packed(const fc_conv_plan *p);
int fc_wino_pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads);
const void *fc_wino_filters(const fc_conv_plan *p, const char *packed, int64_t group, int64_t frequency);

/* A run's patches, VL channels from one of a group's on: from the image over w's strip to its plane. */
void fc_wino_patches(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel);

/* A run's results likewise: from w's plane over its strip to the image, with bias, residual and activation. */
void fc_wino_results(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel);

/* One output channel's filters, or slices of so many taps, a vector of channels a tap, to dw; behind the vectors there is room
 * for one more than as many. */
void fc_wino_write_filters(const fc_conv_plan *p, int64_t taps, char *vectors, int64_t channels, char *dw);

/* The parts of both that know the image. Patches have so many pixels a side; their run says where they start in it. */
void fc_wino_read(const fc_conv_call *j, const fc_wino *w, int side, const fc_wino_run *r, int64_t group, int64_t channel);
void fc_wino_write(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel);

#endif
