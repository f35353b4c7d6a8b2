/* Numbers that kernels/math.inc computes with, of both dtypes: fc_<what>_<dtype>. Polynomials are Chebyshev series of the
 * functions that they stand for, of as many terms as leave an error below a tenth of the last place, computed with 50 digits and
 * written out as coefficients of 1, x, x^2, ... */
#ifndef FC_MATH_H
#define FC_MATH_H

#include <stdint.h>

/* How numbers are made up: bits of the fraction, bias of the exponent, the bits that are not the sign, and those of 1 and of
 * sqrt(1/2); a number that pushes the integral part of what is added to it into its last bits; 2^fraction and its bits. */
static const int fc_fraction_f32 = 23, fc_fraction_f64 = 52;
static const uint32_t fc_bias_f32 = 127, fc_magnitude_f32 = 0x7fffffff, fc_half_f32 = 0xfffff000, fc_root_f32 = 0x3f3504f3,
                      fc_fraction_bits_f32 = 0x7fffff, fc_units_bits_f32 = 0x4b000000;
static const uint64_t fc_bias_f64 = 1023, fc_magnitude_f64 = 0x7fffffffffffffff, fc_half_f64 = 0xfffffffff8000000,
                      fc_root_f64 = 0x3fe6a09e667f3bcd, fc_fraction_bits_f64 = 0xfffffffffffff,
                      fc_units_bits_f64 = 0x4330000000000000;
static const float fc_round_f32 = 0x1.8p23f, fc_units_f32 = 0x1p23f, fc_tiny_f32 = 0x1p-126f,
                   fc_below_tiny_f32 = 0x1.fffffcp-127f;
static const double fc_round_f64 = 0x1.8p52, fc_units_f64 = 0x1p52, fc_tiny_f64 = 0x1p-1022,
                    fc_below_tiny_f64 = 0x1.ffffffffffffep-1023;

/* log(2) in two parts, of which the first has so few bits that its multiples by an exponent are exact; and 1 / log(2). */
static const float fc_log2_f32 = 0.693359375f, fc_log2_rest_f32 = -2.12194440e-4f, fc_per_log2_f32 = 1.44269504f;
static const double fc_log2_f64 = 6.93147180369123816490e-1, fc_log2_rest_f64 = 1.90821492927058770002e-10,
                    fc_per_log2_f64 = 1.44269504088896340736;

/* exp is normal from the first on, half of it from the third; from the second on it is infinite. */
static const float fc_exp_least_f32 = -87.33654f, fc_exp_most_f32 = 89, fc_exp_half_least_f32 = -86;
static const double fc_exp_least_f64 = -708.3964185322641, fc_exp_most_f64 = 710, fc_exp_half_least_f64 = -707;

/* Beyond these: tanh(softplus(x)), tanh(x) and erf(x) are 1, exp(-x^2 / 2) is 0, gelu_tanh(x) is x or 0. */
static const float fc_mish_most_f32 = 20, fc_tanh_most_f32 = 10, fc_erf_most_f32 = 5, fc_tail_most_f32 = 13.3f,
                   fc_gelu_tanh_most_f32 = 11;
static const double fc_mish_most_f64 = 40, fc_tanh_most_f64 = 20, fc_erf_most_f64 = 7, fc_tail_most_f64 = 37.7,
                    fc_gelu_tanh_most_f64 = 22;

/* (exp(x) - 1 - x) / x^2 between -log(2) / 2 and log(2) / 2. */
static const float fc_exp_f32[] = {0.5f, 0.16666576f, 0.041666552f, 0.008363247f, 0.0013926268f};
static const double fc_exp_f64[] = {0.5000000000000001,    0.16666666666666669,    0.04166666666662374,   0.008333333333330032,
                                    0.0013888888917406447, 0.00019841269863201828, 2.4801520996825697e-5, 2.7557268229963227e-6,
                                    2.76202305675069e-7,   2.5100494788905042e-8};

/* (2 atanh(s) / s - 2) / s^2 of s^2, as far as log needs it, s = (m - 1) / (m + 1) of m between sqrt(1/2) and sqrt(2). */
static const float fc_log_f32[] = {0.6666667f, 0.40000123f, 0.28550822f, 0.23330468f};
static const double fc_log_f64[] = {0.666666666666667,   0.39999999999899505, 0.28571428625975487, 0.2222221113479508,
                                    0.18182889125261723, 0.15331721600556042, 0.14616449685043406};

/* The same as far as log1p of 0 to 1 needs it, s up to 1/3. */
static const float fc_log1p_f32[] = {0.6666667f, 0.39999706f, 0.28592357f, 0.21706575f, 0.2322433f};
static const double fc_log1p_f64[] = {0.6666666666666666,  0.39999999999999525, 0.285714285716001,   0.2222222219823677,
                                      0.18181819897962714, 0.1538454396486055,  0.13335178631449257, 0.11734279061303197,
                                      0.10845178394880015, 0.07492143795550767, 0.1563057780092285};

/* (tanh(x) / x - 1) / x^2 of x^2, x up to 0.35. */
static const float fc_tanh_f32[] = {-0.33333333f, 0.13332963f, -0.053815943f, 0.019837984f};
static const double fc_tanh_f64[] = {-0.33333333333333303,   0.13333333333301504,   -0.05396825391358129,
                                     0.02186948495195793,    -0.008863119842786686, 0.0035900917605044886,
                                     -0.0014358164861327777, 0.00048549939897704624};

/* erf(x) / x - 1 of x^2, x up to 1. */
static const float fc_erf_f32[] = {0.12837917f,   -0.37612626f,    0.11283594f, -0.026854211f,
                                   0.0051890872f, -0.00080168643f, 7.875875e-5f};
static const double fc_erf_f64[] = {0.1283791670955126,    -0.3761263890318375,    0.11283791670954879,   -0.026866170645076792,
                                    0.0052239776248180145, -0.000854832698083379,  0.0001205533111164271, -1.4925595266831182e-5,
                                    1.6461000484121368e-6, -1.6350312701054695e-7, 1.4659775274047436e-8, -1.1372848856791674e-9,
                                    5.957176147748911e-11};

/* Phi(-a) exp(a^2 / 2), the normal distribution's tail, is the first divided by the second, for a up to tail_most. */
static const float fc_tail_f32[] = {0.5f, 0.43560845f, 0.18128209f, 0.03998518f, 0.0040228777f};
static const double fc_tail_f64[] = {0.5,
                                     0.8097856741281227,
                                     0.6513853678541854,
                                     0.3356259001235489,
                                     0.12142641529545906,
                                     0.03206656208841975,
                                     0.0062479940715073614,
                                     0.0008874323476174498,
                                     8.819102818360597e-05,
                                     5.568390550125636e-06,
                                     1.7126499872450795e-07};
static const float fc_tail_divisor_f32[] = {1, 1.6691018f, 1.1943103f, 0.46432263f, 0.10023556f, 0.01008371f};
static const double fc_tail_divisor_f64[] = {1,
                                             2.417455909059111,
                                             2.731621481968291,
                                             1.9080039724051094,
                                             0.9173592498926201,
                                             0.3195944377346243,
                                             0.08257549913160595,
                                             0.015881602105454955,
                                             0.0022384209001389817,
                                             0.00022149142249213653,
                                             1.3957885197235872e-05,
                                             4.2929768825700874e-07};

#endif
