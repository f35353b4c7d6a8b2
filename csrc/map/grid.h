/* Arrays of one shape as rows of elements: which dimensions are one, and which part of them is a piece of work. */
#ifndef FC_GRID_H
#define FC_GRID_H

#include "core/check.h"

/* Elements below which a call runs on its caller alone: what two threads share has to be worth waking one. */
#ifndef FC_SERIAL_MAP
#define FC_SERIAL_MAP (64 * 1024)
#endif

enum { FC_GRID_RANK = 8, FC_GRID_ARRAYS = 6 };

/* Dimensions in the order of the first array's strides, the longest first; those that adjoin in all arrays are one. */
typedef struct fc_grid {
  int rank, arrays;
  int64_t size[FC_GRID_RANK], stride[FC_GRID_ARRAYS][FC_GRID_RANK];
  int64_t piece_rows, piece_count, pieces_of_rows, pieces_of_count, pieces;
} fc_grid;

/* Some rows of an array, each of count elements: where the first one begins, in elements, and how far apart they are. */
typedef struct fc_part {
  int64_t rows, count, at[FC_GRID_ARRAYS], row[FC_GRID_ARRAYS], step[FC_GRID_ARRAYS];
} fc_part;

/* rank: at most FC_GRID_RANK; strides that fc_settle has passed, of at most FC_GRID_ARRAYS arrays. */
fc_grid fc_grid_of(int rank, const int64_t *size, int arrays, const int64_t *const *stride);
fc_part fc_part_of(const fc_grid *g, int64_t piece);

#endif
