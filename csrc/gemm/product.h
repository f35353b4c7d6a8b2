/* The blocked matrix product that GEMM and every implicit-GEMM convolution share. */
#ifndef FC_PRODUCT_H
#define FC_PRODUCT_H

#include "kernels/kernels.h"

/* Below this many multiply-adds a second thread costs more than it brings. */
#ifndef FC_SERIAL_MACS
#define FC_SERIAL_MACS 1000000
#endif

/* Packs lanes l0..l1 over k0..k1 as panels into dst. work: what the caller of fc_product_piece handed in. */
typedef void (*fc_pack_fn)(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1);

/* An operand is packed beforehand, or in blocks as the product goes along, or (a only) read row by row where it is; the
 * rows are those of the piece. If at is set, lane l of depth k is at[l + k step]: that is fetched ahead, and read where it is
 * if in_place says so, for which the lanes of b must be fc_whole_vectors. */
typedef struct fc_operand {
  const void *packed;
  fc_pack_fn pack;
  void *work;
  const fc_rows *rows;
  const char *at;
  int64_t step;
  int in_place;
  int64_t high; /* a only: rows of a block; 0: as many as the caches hold */
} fc_operand;

/* Can so many lanes of b be read where they are? The last tile reads a whole panel or one vector. */
static inline int fc_whole_vectors(const fc_kernels *kn, int64_t lanes) {
  return lanes % kn->nr == 0 || lanes % kn->nr == kn->vl;
}

typedef struct fc_product {
  const fc_kernels *kn;
  int64_t es;            /* bytes of an element */
  int64_t m, n, k;
  int64_t kstep;         /* depth of a block of the reduction: fixed by k alone, so that bits are */
  int sum;               /* the result is added to */
} fc_product;

int64_t fc_product_kstep(const fc_kernels *kn, int64_t k);

/* Elements of an operand packed whole (lanes: m or n; tile: mr or nr), and where one of its blocks starts. */
int64_t fc_packed_elements(int64_t lanes, int tile, int64_t k);
static inline int64_t fc_packed_at(int64_t lanes, int tile, int64_t lane, int64_t k0, int64_t depth) {
  return k0 * fc_round_up(lanes, tile) + lane * depth;
}

/* Scratch bytes of a piece with at most n columns whose operands are packed as it goes along. */
int64_t fc_product_scratch(const fc_product *p, int64_t n);

/* Rows m0..m1, columns n0..n1 (starting on tile borders). The views and biases of block are those of the piece. */
void fc_product_piece(const fc_product *p, fc_operand a, fc_operand b, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
                      const fc_view *out, const fc_view *add, const fc_epilogue *ep, void *scratch);

/* Fills crun from coff: how many columns from each on lie next to each other. */
void fc_runs(const int64_t *coff, int32_t *crun, int64_t n);

/* How to cut m x n into pieces, some for each of so many threads: rows and columns of a piece, whole tiles, at most the
 * limits. */
void fc_partition(int64_t m, int64_t n, int mr, int nr, int64_t most_m, int64_t most_n, int64_t copies, int nthreads, int each,
                  int64_t *piece_m, int64_t *piece_n);
/* Pieces for each thread: so that one that loses its core holds up little; few, where each repeats a part of the work. */
enum { FC_MANY_PIECES = 4, FC_ONE_PIECE = 1 };

#endif
