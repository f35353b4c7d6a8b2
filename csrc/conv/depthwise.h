/* What depthwise layers in all directions share: blocks of channels, lines of them, copies and strips of the source. What each
 * does is said where it is, in depthwise.c. */
#ifndef FC_DEPTHWISE_H
#define FC_DEPTHWISE_H

#include "conv/conv.h"

/* What a plan of these algorithms knows: how far taps reach; channels that are gone through at a time; where it copies the
 * source, channels of a pixel, else 0, and pixels of a row. */
typedef struct fc_depth_fields {
  int64_t low[3], span[3], chunk, pixel, columns;
} fc_depth_fields;

static inline fc_depth_fields *fc_depth_own(const fc_conv_plan *p) { return p->state; }

/* Where the first row of the first slice is, which ones these are, and the row behind the last; strides; the column that rows
 * start at, and how many they have. */
typedef struct fc_depth_source {
  const char *at;
  int64_t front, low, high, slice, row, left, wide;
} fc_depth_source;

int64_t fc_depth_blocks(const fc_conv_plan *p, int64_t channels);
int64_t fc_depth_block_elements(const fc_conv_plan *p);
int64_t fc_depth_shift(const fc_conv_plan *p, int64_t channels, const char *src);
int64_t fc_depth_lane(const fc_conv_plan *p, int64_t channels, int64_t shift, int64_t block);
int64_t fc_depth_lines_at_once(const fc_conv_plan *p);
int64_t fc_depth_block_bytes(const fc_conv_plan *p, int64_t lines, int64_t pixel, int64_t channels);
fc_depth fc_depth_block_scratch(const fc_conv_plan *p, char *zeros, int64_t lines, int64_t pixel, int64_t channels,
                                int64_t shift);
void fc_depth_place_block(fc_depth *t, const fc_conv_plan *p, const fc_phase *ph, const fc_depth_source *src, const char *wei,
                          int64_t d, int64_t h, int64_t h1);
int64_t fc_depth_source_rows(const fc_conv_plan *p, int64_t lines);
int64_t fc_depth_copy_bytes(const fc_conv_plan *p, int64_t lines, int64_t channels);
fc_depth_source fc_depth_take_rows(const fc_conv_plan *p, const char *src, int64_t channels, int64_t d, int64_t h, int64_t h1,
                                   char *copy);
int64_t fc_depth_strip_bytes(const fc_conv_plan *p, int64_t rows, int64_t width);
int64_t fc_depth_strip_blocks(const fc_conv_plan *p, int64_t *lines);
int64_t fc_depth_block_channel(const fc_conv_plan *p, int64_t block);
void fc_depth_fill_strip(const fc_conv_plan *p, char *strip, const char *src, const int64_t *stride, int64_t high, int64_t wide,
                         int64_t top, int64_t rows);
void fc_depth_prepare(fc_conv_plan *p);
void fc_depth_prepare_strips(fc_conv_plan *p);
const char *fc_depth_refuse(const fc_conv_plan *p);
const char *fc_depth_refuse_strips(const fc_conv_plan *p);
const char *fc_depth_slow_strips(const fc_conv_plan *p);

#endif
