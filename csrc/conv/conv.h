/* What the files of the convolution share: the plan, a call of it, and the algorithms as objects. */
#ifndef FC_CONV_H
#define FC_CONV_H

#include "conv/heuristics.h"
#include "core/plan.h"
#include "core/threads.h"
#include "gemm/product.h"

typedef struct fc_conv_plan fc_conv_plan;

/* A dimension of a phase: count outputs, at dst_base + j dst_step; each tap reads src at j src_step + off. */
typedef struct fc_axis {
  int64_t count, src_step, dst_base, dst_step;
  int ntap;
  int32_t *tap, *off;
} fc_axis;

/* Outputs that see the same taps. Forward has one phase, backward-input one for each remainder by the strides. */
typedef struct fc_phase {
  fc_axis ax[3];
  int64_t k, pixels;          /* reduction length: taps times source channels; outputs, the batch included */
  int64_t packed;             /* where its packed weights start, in elements */
} fc_phase;

struct fc_conv_call;

/* The rule about strides: every array may have any, negative ones, 0, those of overlapping or transposed views. Who walks along
 * an axis multiplies positions by its stride, and takes no order of the axes and no sign for granted. Whoever wants more says so
 * in strides; conv/plan.c refuses the others' plans. Faster ways inside an algorithm ask for themselves, where they are chosen.
 * source and result are x and y, backward-input the other way round; add is the residual. */
enum {
  FC_SOURCE_CHANNELS = 1,     /* channels are neighbours */
  FC_RESULT_CHANNELS = 2,
  FC_ADD_CHANNELS = 4,
  FC_RESULT_PIXELS = 8,       /* pixels of a row are, of the residual too */
  FC_SOURCE_AHEAD = 16,       /* pixels of a row go up, by at most FC_PIXELS_APART */
};
#define FC_PIXELS_APART (1 << 16)

/* Along a dimension: results of a tile that are transformed together, and the source's pixels that they are made of. */
typedef struct fc_tile_side {
  int64_t step, side;
} fc_tile_side;

/* The directions that an algorithm may be of. */
enum { FC_OF_IMAGES = FC_BIT(FC_FWD) | FC_BIT(FC_BWD_INPUT), FC_OF_WEIGHTS = FC_BIT(FC_BWD_WEIGHT) };

/* An algorithm: conv/plan.c lists them in the order in which they are asked. Whatever is asked of it finds it in the plan. */
typedef struct fc_algorithm {
  const char *name;
  int directions;
  int parameter;              /* in which it differs from others that share its functions */
  /* NULL if it can compute this plan, else why not; empty if that goes without saying. No phases are there yet. NULL: it can
   * compute all of its directions. */
  const char *(*refuse)(const fc_conv_plan *p);
  int strides;                /* what it asks of them */
  size_t state;               /* bytes of what a plan of it knows besides, which prepare finds zero */
  /* Once, after the phases are made. May be NULL. */
  void (*prepare)(fc_conv_plan *p);
  /* Packed weights: elements, and the work of packing; NULL where they are taken as they are. */
  int64_t (*packed)(const fc_conv_plan *p);
  int (*pack)(const fc_conv_plan *p, const void *w, void *packed, int nthreads);
  /* Whether weights that do not come packed are read where they are. NULL: they are packed first. */
  int (*in_place)(const fc_conv_plan *p);
  /* Cuts a call into pieces: sets what the call knows of them and a worker's scratch, returns how many. */
  int64_t (*pieces)(struct fc_conv_call *call, int nthreads);
  fc_piece_fn run;
  /* NULL if it should, else why a later one is faster; who asks for it by name is not told. May be NULL. */
  const char *(*slow)(const fc_conv_plan *p);
  /* Instead of running the pieces: does it all, with weights as they are where none come packed. May be NULL. */
  int (*execute)(struct fc_conv_call *call, int nthreads);
  /* Its tiles, if it mixes the values of one (conv/range.c); NULL where each result has a sum of its own. */
  fc_tile_side (*tile)(const fc_conv_plan *p, int dimension);
} fc_algorithm;

extern const fc_algorithm fc_conv_winograd_3x3, fc_conv_winograd_5x5, fc_conv_winograd_filters_3x3, fc_conv_winograd_filters_5x5,
    fc_conv_winograd_strided, fc_conv_depthwise, fc_conv_depthwise_rows, fc_conv_depthwise_strips, fc_conv_lines, fc_conv_direct,
    fc_conv_rows, fc_conv_pixels, fc_conv_weight_winograd_3x3, fc_conv_weight_winograd_5x5, fc_conv_weight_winograd_strided,
    fc_conv_winograd_line_6, fc_conv_weight_winograd_line_6, fc_conv_weight_winograd_line_8, fc_conv_weight_winograd_line_10,
    fc_conv_winograd_line_8, fc_conv_winograd_line_10, fc_conv_weight_depthwise, fc_conv_weight_depthwise_strips,
    fc_conv_weight_lines, fc_conv_weight_direct, fc_conv_weight_pixels;

/* Sets of taps of a dimension that are told apart. */
#define FC_RANGE_SETS 16

/* Where tiles of values that are too far apart are looked for. */
typedef struct fc_range {
  fc_look_side side[3];
  double ratio;
  int sets[3], taps[3][FC_RANGE_SETS]; /* of each dimension: the taps that some results find outside the padding, a bit each */
} fc_range;

struct fc_conv_plan {
  fc_plan head;
  fc_conv_desc d;
  const fc_kernels *kn;
  int64_t es;
  const fc_algorithm *algorithm;
  fc_range range;
  fc_conv_plan *direct;       /* computes what the algorithm cannot be trusted with; NULL where it always can */
  /* What the direction reads and writes: channels a group, sizes, strides; strides of w along the channels of both. */
  int64_t src_channels, dst_channels, src_size[3], dst_size[3], src_stride[5], dst_stride[5], w_src, w_dst;
  int nphase;
  fc_phase *phases;
  int32_t *taps;              /* every phase's tap lists, one allocation */
  void *state;                /* what its algorithm knows besides */
};

/* One call of a plan. */
typedef struct fc_conv_call {
  const fc_conv_plan *p;
  const char *first, *second, *packed, *bias, *add;
  char *result, *workspace;
  const int32_t *listed[5];   /* implicit_gemm_pixels: the pixels of phase f to make are listed[f]..listed[f + 1]; NULL: all */
  const char *filters;        /* the parts of the filters, looked at (fc_range_parts) */
  int threads;                /* that it was cut into pieces for */
  int64_t scratch, shared;    /* bytes a worker, and of them all; shared ones come first */
  int64_t piece_m, piece_n, pieces_m, pieces_n;
} fc_conv_call;

/* conv/range.c: what a plan whose algorithm has tiles needs; bytes of scratch for looking, with so many threads; a call that
 * looks first, and computes directly what has to be. */
void fc_range_prepare(fc_conv_plan *p);
int64_t fc_range_workspace(const fc_conv_plan *p, int nthreads);
int fc_range_run(fc_conv_call *call, const void *packed, int nthreads);

/* Parts of a group's filters that are looked at while they are transformed: the sums of the magnitudes of each tap. Parts lie
 * one after another, behind the packed filters if there are those; a part begins as zeros, gets channels of fc_filter_rows, and
 * is closed. */
int64_t fc_range_parts(const fc_conv_plan *p);
int64_t fc_range_parts_bytes(const fc_conv_plan *p);
void *fc_range_packed(const fc_conv_plan *p, const char *packed);
void *fc_range_open(const fc_conv_plan *p, const void *parts, int64_t part);
void fc_range_filters(const fc_conv_plan *p, const void *rows, int64_t channels, void *part);
void fc_range_close(const fc_conv_plan *p, void *part);

/* Bytes of an algorithm's own: its packed weights; its scratch. A call of it alone. */
int64_t fc_conv_own_packed_bytes(const fc_conv_plan *p);
int64_t fc_conv_own_workspace(const fc_conv_plan *p, int nthreads, int packed);
int fc_conv_own_run(fc_conv_call *call, const void *packed, int nthreads);

/* The threads of a plan that packs weights. */
static inline int fc_conv_packers(const fc_conv_plan *p, int nthreads) { return p->head.serial ? 1 : nthreads; }

/* How far the taps of all phases reach in the source, from low on, and the largest phase's outputs. */
void fc_reach(const fc_conv_plan *p, int64_t low[3], int64_t span[3], int64_t most[3]);

/* Columns (lanes) of a piece: multiples of every tile, small enough that both blocks stay in L2. */
#define FC_PIECE_LANES 192

static inline int64_t fc_product3(const int64_t v[3]) { return v[0] * v[1] * v[2]; }

static inline void fc_copy_element(int64_t es, void *to, const void *from) {
  if (es == 4)
    *(float *)to = *(const float *)from;
  else
    *(double *)to = *(const double *)from;
}

/* Adds count numbers of es bytes to as many. */
static inline void fc_add(void *to, const void *from, int64_t count, int64_t es) {
  if (es == sizeof(float))
    for (int64_t i = 0; i < count; i++) ((float *)to)[i] += ((const float *)from)[i];
  else
    for (int64_t i = 0; i < count; i++) ((double *)to)[i] += ((const double *)from)[i];
}

/* Where a tap of the kernel lies among the weights. */
static inline int64_t fc_tap_stride(const fc_conv_desc *d, int64_t tap) {
  return tap / d->ker[2] / d->ker[1] * d->w_stride[2] + tap / d->ker[2] % d->ker[1] * d->w_stride[3] +
         tap % d->ker[2] * d->w_stride[4];
}

/* Output pixels of a piece, decoded: where each reads its source (for a tap of offset 0), where it is written. */
typedef struct fc_pixels {
  const fc_conv_plan *p;
  const fc_phase *ph;
  const char *src;            /* of even pixels, the first of the piece */
  int64_t first;              /* the pixel that entry 0 is for */
  int64_t *base, *out, *add;
  int32_t *pos, *run, *add_run; /* pos: d, h, w for each */
} fc_pixels;

int64_t fc_pixels_bytes(int64_t n);
/* Pixels p0..p1 of a phase, or, if there is one, of a list of them. */
void fc_pixels_decode(fc_pixels *t, const fc_conv_plan *p, const fc_phase *ph, const int32_t *list, int64_t p0, int64_t p1,
                      void *memory, int with_add);

/* The addresses of n pixels' channels for every tap; taps in the padding find a row of zeros. */
int64_t fc_pixels_rows_bytes(const fc_conv_plan *p, int64_t n, int64_t channels);
void fc_pixels_rows(const fc_pixels *t, int64_t n, int64_t channels, void *memory, fc_rows *rows);

/* Whole filters as rows of lanes: rows[(x - c) taps + t] holds tap t of source channel x for the lanes from l0 on. Taps
 * of many filters lie one after another in memory; fc_filter_step says how many channels to ask for at a time: with filters
 * of at most FC_FILTER_ROWS taps they make as many rows at most. */
#define FC_FILTER_ROWS 128
int64_t fc_filter_step(const fc_conv_plan *p);

/* Memory for so many rows, small enough for the stack of any thread (musl's have 128 KB). */
typedef union fc_filter_memory {
  float f32[FC_FILTER_ROWS * FC_MAX_TILE / sizeof(float)];
  double f64[FC_FILTER_ROWS * FC_MAX_TILE / sizeof(double)];
} fc_filter_memory;
void fc_filter_rows(const fc_conv_plan *p, const char *w, int tile, int64_t l0, int64_t c, int64_t c1, void *rows);

#endif
