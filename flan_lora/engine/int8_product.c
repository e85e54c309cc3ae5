/* Row-wise int8 products of T5's linears (LLM.int8, arXiv:2208.07339, equation 2), for x86 with AVX-512 VNNI or AMX.
 *
 * Every output has the bits that torch's operations give in linear.py: sums of int8 products are integers, so their
 * order does not matter, and the float operations before and after them are the same ones in the same order. What is
 * gained is that a row's codes, sums and outputs stay in registers and caches, and that weights are read as they lie.
 *
 * Compiled on the machine that runs it (native.py): gcc -O3 -march=native -ffp-contract=off -fopenmp. Without
 * -ffp-contract=off a multiplication and an addition become one, with other bits.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef __AVX512VNNI__
#error "needs AVX-512 VNNI"
#endif
#include <immintrin.h>

#if defined(__AMX_INT8__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define HAS_AMX 1
#endif

enum {
    CODES = 64,   /* int8 codes in a register or in a row of a tile */
    TILE = 16,    /* rows of a tile */
    OUTPUTS = 32, /* that AMX computes at once: two tiles of weights */
};

static float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* To the nearest, ties to even, as torch rounds. */
static inline uint16_t to_bf16(float value) {
    uint32_t bits = as_bits(value);
    uint16_t rounded = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return value != value ? 0x7fc0 : rounded;
}

/* Whether this process may use AMX: Linux has it ask for the tiles' 8 KB per thread first. */
int has_amx(void) {
#ifdef HAS_AMX
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

/* Up to 16 rows of codes, zeros for those that lack, as AMX reads its right factor: (in / 4, 16, 4). */
static void pack(const int8_t *codes, long rows, long in, int32_t *packed) {
    for (long r = 0; r < TILE; r++) {
        const int32_t *fours = (const int32_t *)(codes + r * in);
        for (long k = 0; k < in / 4; k++) packed[k * TILE + r] = r < rows ? fours[k] : 0;
    }
}

/* Codes (rows, in) and max |row| (rows,) of x (rows, in) in bf16 or fp32, by way of fp16 as bitsandbytes takes them.
 * packed: as `pack` makes it of every 16 rows; NULL if `amx_product` is not to come. */
void quantise(const void *x, int is_bf16, long rows, long in, int8_t *codes, float *scales, int32_t *packed) {
    for (long r = 0; r < rows; r++) {
        float values[in];
        if (is_bf16) {
            const uint16_t *from = (const uint16_t *)x + r * in;
            for (long i = 0; i < in; i++) values[i] = (float)(_Float16)as_float((uint32_t)from[i] << 16);
        } else {
            const float *from = (const float *)x + r * in;
            for (long i = 0; i < in; i++) values[i] = (float)(_Float16)from[i];
        }
        int32_t largest = 0; /* of absolute values, as bits: those of a NaN are larger than any number's */
        for (long i = 0; i < in; i++) {
            int32_t bits = (int32_t)(as_bits(values[i]) & 0x7fffffff);
            largest = bits > largest ? bits : largest;
        }
        float scale = as_float((uint32_t)largest);
        float inverse = 1.0f / scale * 127.0f; /* 127.0 / tensor, in torch's two steps */
        int8_t *own = codes + r * in;
        scales[r] = scale;
        if (largest == 0 || largest >= 0x7f800000)
            memset(own, 0, in); /* zeros stay zeros; infinity and NaN make the row's outputs NaN, by its scale */
        else
            for (long i = 0; i < in; i++) own[i] = (int8_t)(int)rintf(values[i] * inverse);
    }
    if (packed)
        for (long r = 0; r < rows; r += TILE) pack(codes + r * in, rows - r, in, packed + r * in / 4);
}

/* Outputs (rows, num) of sums (rows, num), `stride` of them a row; y has `out` outputs a row. */
static inline void scale_sums(const int32_t *sums, long stride, long rows, long num, const float *scales,
                              float dequantise, const float *weight_scale, void *y, long out, int is_bf16) {
    for (long r = 0; r < rows; r++, sums += stride) {
        float scale = scales[r] * dequantise;
        if (is_bf16) {
            uint16_t *own = (uint16_t *)y + r * out;
            for (long j = 0; j < num; j++) own[j] = to_bf16((float)sums[j] * scale * weight_scale[j]);
        } else {
            float *own = (float *)y + r * out;
            for (long j = 0; j < num; j++) own[j] = (float)sums[j] * scale * weight_scale[j];
        }
    }
}

/* AVX-512 VNNI */

static inline __m128i fold(__m512i v) {
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* The sum of each of four registers. */
static inline __m128i four_sums(const __m512i v[4]) {
    return _mm_hadd_epi32(_mm_hadd_epi32(fold(v[0]), fold(v[1])), _mm_hadd_epi32(fold(v[2]), fold(v[3])));
}

/* Sums (rows, 4) of up to four rows and four outputs. The instruction's left factor is unsigned: codes are read as
 * code + 128, and 128 times the sum of the weights is taken off again. Inlined with a constant number of rows. */
static inline __attribute__((always_inline)) void vnni_block(const int8_t *codes, const int8_t *weight,
                                                             const int rows, long in, int32_t *sums) {
    const __m512i shift = _mm512_set1_epi8((char)128);
    __m512i products[4][4], shifted[4];
    for (int j = 0; j < 4; j++) {
        shifted[j] = _mm512_setzero_si512();
        for (int r = 0; r < rows; r++) products[r][j] = _mm512_setzero_si512();
    }
    for (long k = 0; k < in; k += CODES) {
        __m512i w[4];
        for (int j = 0; j < 4; j++) {
            const int8_t *place = weight + j * in + k;
            _mm_prefetch((const char *)(place + 4 * in), _MM_HINT_T0); /* the next four outputs' */
            w[j] = _mm512_loadu_si512(place);
            shifted[j] = _mm512_dpbusd_epi32(shifted[j], shift, w[j]);
        }
        for (int r = 0; r < rows; r++) {
            __m512i x = _mm512_xor_si512(shift, _mm512_loadu_si512(codes + r * in + k));
            for (int j = 0; j < 4; j++) products[r][j] = _mm512_dpbusd_epi32(products[r][j], x, w[j]);
        }
    }
    __m128i excess = four_sums(shifted);
    for (int r = 0; r < rows; r++)
        _mm_storeu_si128((__m128i *)(sums + 4 * r), _mm_sub_epi32(four_sums(products[r]), excess));
}

/* y (rows, out) of codes (rows, in) and a weight (out, in). in: a multiple of 64, out: of 4. */
void vnni_product(const int8_t *codes, const int32_t *packed, const float *scales, const int8_t *weight,
                  const float *weight_scale, long rows, long in, long out, float dequantise, void *y, int is_bf16,
                  int threads) {
    (void)packed;
    long size = is_bf16 ? 2 : 4;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (long o = 0; o < out; o += 4) {
        int32_t sums[4 * 4];
        for (long r = 0; r < rows; r += 4) {
            const int8_t *own = codes + r * in, *w = weight + o * in;
            long num = rows - r < 4 ? rows - r : 4;
            if (num == 4) vnni_block(own, w, 4, in, sums);
            else if (num == 3) vnni_block(own, w, 3, in, sums);
            else if (num == 2) vnni_block(own, w, 2, in, sums);
            else vnni_block(own, w, 1, in, sums);
            scale_sums(sums, 4, num, 4, scales + r, dequantise, weight_scale + o, (char *)y + (r * out + o) * size,
                       out, is_bf16);
        }
    }
}

/* AMX. Tiles: 0 to 3 sums (outputs, rows), 4 and 5 weights, 6 and 7 codes. */

#ifdef HAS_AMX
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} TileConfig;

static void configure_tiles(void) {
    TileConfig config __attribute__((aligned(64))) = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) config.bytes_per_row[tile] = 64, config.rows[tile] = TILE;
    _tile_loadconfig(&config);
}

/* Sums (2, 2, outputs, rows) of 32 outputs and one or two packed sixteens of rows. */
static inline void amx_block(const int32_t *first, const int32_t *second, const int8_t *weight, long in,
                             int32_t *sums) {
    const int8_t *lower = weight + TILE * in;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long k = 0; k < in; k += CODES) {
        if (!second) /* few rows wait for the weights: fetch the next 32 outputs' */
            for (int o = 0; o < OUTPUTS; o++)
                _mm_prefetch((const char *)(weight + (OUTPUTS + o) * in + k), _MM_HINT_T0);
        _tile_loadd(4, weight + k, in);
        _tile_loadd(5, lower + k, in);
        _tile_loadd(6, first + k * TILE / 4, 64);
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 5, 6);
        if (second) {
            _tile_loadd(7, second + k * TILE / 4, 64);
            _tile_dpbssd(2, 4, 7);
            _tile_dpbssd(3, 5, 7);
        }
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + TILE * TILE, 64);
    if (second) {
        _tile_stored(2, sums + 2 * TILE * TILE, 64);
        _tile_stored(3, sums + 3 * TILE * TILE, 64);
    }
}

/* As `vnni_product`, of what `quantise` packed. out: a multiple of 32. */
void amx_product(const int8_t *codes, const int32_t *packed, const float *scales, const int8_t *weight,
                 const float *weight_scale, long rows, long in, long out, float dequantise, void *y, int is_bf16,
                 int threads) {
    (void)codes;
    long size = is_bf16 ? 2 : 4;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        configure_tiles();
#pragma omp for schedule(static)
        for (long o = 0; o < out; o += OUTPUTS) {
            int32_t sums[4 * TILE * TILE] __attribute__((aligned(64)));
            int32_t turned[TILE * OUTPUTS] __attribute__((aligned(64)));
            for (long r = 0; r < rows; r += 2 * TILE) {
                const int32_t *first = packed + r * in / 4, *second = first + TILE * in / 4;
                amx_block(first, r + TILE < rows ? second : NULL, weight + o * in, in, sums);
                for (long part = r; part < rows && part < r + 2 * TILE; part += TILE) {
                    const int32_t *own = sums + (part - r) / TILE * OUTPUTS * TILE;
                    for (int j = 0; j < OUTPUTS; j++)
                        for (int n = 0; n < TILE; n++) turned[n * OUTPUTS + j] = own[j * TILE + n];
                    scale_sums(turned, OUTPUTS, rows - part < TILE ? rows - part : TILE, OUTPUTS, scales + part,
                               dequantise, weight_scale + o, (char *)y + (part * out + o) * size, out, is_bf16);
                }
            }
        }
        _tile_release();
    }
}
#endif
