// Rows of selected pixels: gathered, multiplied, and added to a feature map, in one pass over a
// core's cache. See dynbackbones/layers/native_rows.py.

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/extension.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

namespace {

// Rows at a time: many, so that calls cost little, and few enough to stay in a core's cache.
constexpr int64_t MOST = 256, LEAST = 64, CACHED = 512 * 1024;

// Rounded to the nearest value, and so written that compilers make vectors of it.
inline float to_float(float value) { return value; }
inline float to_float(at::BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.x) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
inline void store(float value, float* target) { *target = value; }
inline void store(float value, at::BFloat16* target) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  target->x = static_cast<uint16_t>(nan ? 0x7fc0u : rounded);
}

// A row of float sums, plus bias, and what `before` holds, with a ReLU at the end.
template <typename T>
inline void finish_row(const float* sums, const float* bias, const T* before, T* target,
                       int64_t columns, bool relu) {
  for (int64_t n = 0; n < columns; ++n) {
    float value = sums[n] + bias[n];
    if (before != nullptr) value += to_float(before[n]);
    if (relu) value = value < 0 ? 0 : value;  // NaN stays
    store(value, target + n);
  }
}

template <typename T>
void run(const at::Tensor& source, const at::Tensor& index, const std::vector<at::Tensor>& weights,
         const std::vector<at::Tensor>& biases, const std::vector<int64_t>& widths,
         at::Tensor& target, const std::optional<at::Tensor>& place, int64_t offset, bool relu) {
  const int64_t pixels = index.size(0), taps = index.size(1), channels = source.size(1);
  const int64_t depth = taps * channels, layers = static_cast<int64_t>(weights.size());
  const int64_t columns = widths.back();
  const int64_t widest = *std::max_element(widths.begin(), widths.end());
  const int64_t read = std::max(depth, widest);
  const T* from = source.const_data_ptr<T>();
  const int64_t* near = index.const_data_ptr<int64_t>();
  const int64_t* where = place ? place->const_data_ptr<int64_t>() : nullptr;
  T* to = target.data_ptr<T>();
  const int64_t fits = CACHED / (read * static_cast<int64_t>(sizeof(T))) / 16 * 16;
  const int64_t all = (pixels + 15) / 16 * 16;
  const int64_t tile_rows = std::min(all, std::max(LEAST, std::min(MOST, fits)));
  if (pixels == 0) return;
  const int64_t tiles = (pixels + tile_rows - 1) / tile_rows;
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    // Not filled: nothing is read that was not written, but for rows that nobody keeps.
    std::unique_ptr<T[]> rows(new T[tile_rows * read]), others(new T[tile_rows * read]);
    std::unique_ptr<float[]> sums(new float[tile_rows * widest]);
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t start = tile * tile_rows, count = std::min(tile_rows, pixels - start);
      for (int64_t m = 0; m < count; ++m)
        for (int64_t tap = 0; tap < taps; ++tap)
          std::memcpy(&rows[m * depth + tap * channels],
                      from + near[(start + m) * taps + tap] * channels, channels * sizeof(T));
      // oneDNN makes a kernel for each number of rows; what stands in the last ones is not written.
      const int64_t computed = (count + 15) / 16 * 16;
      int64_t inner = depth;
      for (int64_t layer = 0; layer < layers; ++layer) {
        const int64_t width = widths[layer];
        at::native::cpublas::brgemm(computed, width, inner, inner, width, width, false, rows.get(),
                                    weights[layer].const_data_ptr<T>(), sums.get(),
                                    sizeof(T) == 2);
        const float* bias = biases[layer].const_data_ptr<float>();
        const bool last = layer == layers - 1;
        for (int64_t m = 0; m < count; ++m) {
          const float* own = &sums[m * width];
          if (!last) {
            finish_row<T>(own, bias, nullptr, &others[m * width], width, true);
          } else if (where != nullptr) {
            T* spot = to + where[start + m] * columns;
            finish_row<T>(own, bias, spot, spot, width, relu);
          } else {
            finish_row<T>(own, bias, nullptr, to + (offset + start + m) * columns, width, relu);
          }
        }
        rows.swap(others);
        inner = width;
      }
    }
    at::native::cpublas::brgemm_release(sizeof(T) == 2);
  });
}

}  // namespace

void rows(const at::Tensor& source, const at::Tensor& index, std::vector<at::Tensor> weights,
          std::vector<at::Tensor> biases, std::vector<int64_t> widths, at::Tensor target,
          std::optional<at::Tensor> place, int64_t offset, bool relu) {
  TORCH_CHECK(source.is_contiguous() && index.is_contiguous() && target.is_contiguous());
  if (source.scalar_type() == at::kFloat) {
    run<float>(source, index, weights, biases, widths, target, place, offset, relu);
  } else {
    TORCH_CHECK(source.scalar_type() == at::kBFloat16, "float32 or bfloat16");
    run<at::BFloat16>(source, index, weights, biases, widths, target, place, offset, relu);
  }
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("rows", &rows, pybind11::call_guard<pybind11::gil_scoped_release>());
}
