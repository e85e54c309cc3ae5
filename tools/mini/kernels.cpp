// The element-wise half of a T5 training step on a CPU, each pass over memory once.
// Rows are contiguous; T is float or bf16 (stored as its 16 high bits). Built by `kernels.py`.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct bf16 { uint16_t bits; };

inline float load(float x) { return x; }
inline float load(bf16 x) {
  uint32_t u = uint32_t(x.bits) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline void store(float* p, float x) { *p = x; }
inline void store(bf16* p, float x) {  // to nearest, ties to even; no NaN comes here
  uint32_t u;
  std::memcpy(&u, &x, 4);
  p->bits = uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// e^x to about 2e-7, relative; below -87 it is e^-87.
inline float fast_exp(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f) * 1.44269504f;
  float n = std::nearbyint(x), f = x - n;
  float p = 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  int32_t bits = (int32_t(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

constexpr float kGelu = 0.7978845608f, kCube = 0.044715f;

// states_out = states + y; normed = states_out / rms * weight. y may be null.
template <class T>
void add_norm(const float* states, const T* y, const float* weight, float* out, T* normed, float* rstd,
              int64_t rows, int64_t width, float eps) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* s = states + r * width;
    float* o = out + r * width;
    float sum = 0;
    if (y) {
      const T* d = y + r * width;
      for (int64_t i = 0; i < width; ++i) {
        float v = s[i] + load(d[i]);
        o[i] = v;
        sum += v * v;
      }
    } else {
      for (int64_t i = 0; i < width; ++i) sum += s[i] * s[i];
      o = const_cast<float*>(s);
    }
    float scale = 1.0f / std::sqrt(sum / width + eps);
    rstd[r] = scale;
    T* n = normed + r * width;
    for (int64_t i = 0; i < width; ++i) store(n + i, o[i] * scale * weight[i]);
  }
}

// grad (fp32, of states_out; fresh: not yet) gets the norm's part added; that of the weight is added up.
template <class T>
void add_norm_backward(const T* grad_normed, const float* states, const float* rstd, const float* weight,
                       float* grad, float* grad_weight, int64_t rows, int64_t width, bool fresh) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* s = states + r * width;
    const T* g = grad_normed + r * width;
    float* o = grad + r * width;
    float dot = 0, scale = rstd[r];
    for (int64_t i = 0; i < width; ++i) {
      float v = load(g[i]);
      dot += v * weight[i] * s[i];
      grad_weight[i] += v * s[i] * scale;
    }
    float pull = dot * scale * scale * scale / width;
    if (fresh) std::memset(o, 0, width * sizeof(float));
    for (int64_t i = 0; i < width; ++i) o[i] += load(g[i]) * weight[i] * scale - s[i] * pull;
  }
}

// ab (rows, 2 * width): hidden = gelu_tanh(a) * b.
template <class T>
void gated_gelu(const T* ab, T* hidden, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    const T *a = ab + r * 2 * width, *b = a + width;
    T* h = hidden + r * width;
    for (int64_t i = 0; i < width; ++i) {
      float x = load(a[i]);
      float gate = 1.0f / (1.0f + fast_exp(-2.0f * kGelu * (x + kCube * x * x * x)));
      store(h + i, x * gate * load(b[i]));
    }
  }
}

// grad_ab may be ab itself.
template <class T>
void gated_gelu_backward(const T* ab, const T* grad_hidden, T* grad_ab, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    const T *a = ab + r * 2 * width, *b = a + width, *g = grad_hidden + r * width;
    T *ga = grad_ab + r * 2 * width, *gb = ga + width;
#pragma GCC ivdep
    for (int64_t i = 0; i < width; ++i) {
      float x = load(a[i]), y = load(b[i]), d = load(g[i]);
      float gate = 1.0f / (1.0f + fast_exp(-2.0f * kGelu * (x + kCube * x * x * x)));
      float slope = gate + x * gate * (1.0f - gate) * 2.0f * kGelu * (1.0f + 3.0f * kCube * x * x);
      store(ga + i, d * y * slope);
      store(gb + i, d * x * gate);
    }
  }
}

// scores (batch, heads, queries, keys) become probabilities in place. bias (heads, queries + keys - 1) is by
// key - query + queries - 1, or null; a row sees its first lengths[batch] keys, and no later ones when causal.
template <class T>
void softmax_bias(T* scores, const float* bias, const int64_t* lengths, int64_t batch, int64_t heads,
                  int64_t queries, int64_t keys, bool causal, float* buffer) {
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t q = 0; q < queries; ++q) {
        T* s = scores + ((b * heads + h) * queries + q) * keys;
        int64_t end = lengths ? std::min(lengths[b], keys) : keys;
        if (causal) end = std::min(end, q + 1);
        float top = -1e30f, sum = 0;
        if (bias) {
          const float* line = bias + h * (queries + keys - 1) + queries - 1 - q;
          for (int64_t k = 0; k < end; ++k) {
            float v = load(s[k]) + line[k];
            buffer[k] = v;
            top = std::max(top, v);
          }
        } else {
          for (int64_t k = 0; k < end; ++k) {
            float v = load(s[k]);
            buffer[k] = v;
            top = std::max(top, v);
          }
        }
        for (int64_t k = 0; k < end; ++k) {
          float v = fast_exp(buffer[k] - top);
          buffer[k] = v;
          sum += v;
        }
        float scale = 1.0f / sum;
        for (int64_t k = 0; k < end; ++k) store(s + k, buffer[k] * scale);
        for (int64_t k = end; k < keys; ++k) store(s + k, 0.0f);
      }
}

// grad (of the probabilities) becomes that of the scores, in place; grad_bias gathers it by distance, or null.
template <class T>
void softmax_bias_backward(const T* probabilities, T* grad, float* grad_bias, int64_t batch, int64_t heads,
                           int64_t queries, int64_t keys, bool causal) {
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t q = 0; q < queries; ++q) {
        int64_t row = ((b * heads + h) * queries + q) * keys;
        const T* p = probabilities + row;
        T* g = grad + row;
        int64_t end = causal ? q + 1 : keys;
        float dot = 0;
        for (int64_t k = 0; k < end; ++k) dot += load(p[k]) * load(g[k]);
        if (grad_bias) {
          float* line = grad_bias + h * (queries + keys - 1) + queries - 1 - q;
#pragma GCC ivdep
          for (int64_t k = 0; k < end; ++k) {
            float v = load(p[k]) * (load(g[k]) - dot);
            line[k] += v;
            store(g + k, v);
          }
        } else {
          for (int64_t k = 0; k < end; ++k) store(g + k, load(p[k]) * (load(g[k]) - dot));
        }
        for (int64_t k = end; k < keys; ++k) store(g + k, 0.0f);
      }
}

// logits (rows, vocab) become the gradient of sum(weight * loss), in place; a label below 0 counts nothing.
template <class T>
void cross_entropy(T* logits, const int64_t* labels, const float* weights, float* losses, int64_t rows,
                   int64_t vocab, float* buffer) {
  for (int64_t r = 0; r < rows; ++r) {
    T* x = logits + r * vocab;
    int64_t label = labels[r];
    if (label < 0) {
      losses[r] = 0;
      std::memset(static_cast<void*>(x), 0, vocab * sizeof(T));
      continue;
    }
    float top = -1e30f, sum = 0, own = load(x[label]);
    for (int64_t i = 0; i < vocab; ++i) top = std::max(top, load(x[i]));
    for (int64_t i = 0; i < vocab; ++i) {
      float v = fast_exp(load(x[i]) - top);
      buffer[i] = v;
      sum += v;
    }
    losses[r] = std::log(sum) + top - own;
    float scale = weights[r] / sum;
    for (int64_t i = 0; i < vocab; ++i) store(x + i, buffer[i] * scale);
    store(x + label, buffer[label] * scale - weights[r]);
  }
}

}  // namespace

#define EXPORT(SUFFIX, T)                                                                                        \
  extern "C" void add_norm_##SUFFIX(const float* s, const T* y, const float* w, float* o, T* n, float* r,        \
                                    int64_t rows, int64_t width, float eps) {                                    \
    add_norm<T>(s, y, w, o, n, r, rows, width, eps);                                                             \
  }                                                                                                              \
  extern "C" void add_norm_backward_##SUFFIX(const T* gn, const float* s, const float* r, const float* w, float* g, \
                                             float* gw, int64_t rows, int64_t width, bool fresh) {               \
    add_norm_backward<T>(gn, s, r, w, g, gw, rows, width, fresh);                                                \
  }                                                                                                              \
  extern "C" void gated_gelu_##SUFFIX(const T* ab, T* h, int64_t rows, int64_t width) {                          \
    gated_gelu<T>(ab, h, rows, width);                                                                           \
  }                                                                                                              \
  extern "C" void gated_gelu_backward_##SUFFIX(const T* ab, const T* gh, T* gab, int64_t rows, int64_t width) {  \
    gated_gelu_backward<T>(ab, gh, gab, rows, width);                                                            \
  }                                                                                                              \
  extern "C" void softmax_bias_##SUFFIX(T* s, const float* bias, const int64_t* lengths, int64_t b, int64_t h,   \
                                        int64_t q, int64_t k, bool causal, float* buffer) {                      \
    softmax_bias<T>(s, bias, lengths, b, h, q, k, causal, buffer);                                               \
  }                                                                                                              \
  extern "C" void softmax_bias_backward_##SUFFIX(const T* p, T* g, float* gb, int64_t b, int64_t h, int64_t q,   \
                                                 int64_t k, bool causal) {                                       \
    softmax_bias_backward<T>(p, g, gb, b, h, q, k, causal);                                                      \
  }                                                                                                              \
  extern "C" void cross_entropy_##SUFFIX(T* x, const int64_t* y, const float* w, float* l, int64_t rows,         \
                                         int64_t vocab, float* buffer) {                                         \
    cross_entropy<T>(x, y, w, l, rows, vocab, buffer);                                                           \
  }

EXPORT(f32, float)
EXPORT(bf16, bf16)
