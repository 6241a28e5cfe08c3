#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "winograd_loops.h"

namespace deeplab2_d2 {
namespace {

constexpr char kName[] = "winograd_convolution";
// Of a thread, at a time: tiles whose transformed values and sums its cache should hold.
constexpr int64_t kMostTiles = 48;
// Transformed kernels that exist at a time, and transformed values of all tiles that are kept for
// the next kernels: a cache that processors share should hold them.
constexpr int64_t kMostKernels = 8 << 20;
constexpr int64_t kMostValues = 4 << 20;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Numbers from a place to the next one: no multiple of a page, so that the places of a value do not
// fall on the same lines of the cache.
int64_t padded_plane(int64_t size) { return round_up(size, 16) + 16; }

// The first output pixel of a tile; the others are `dilation` apart in both directions.
struct Tile {
  int64_t image, y, x;
};

// Of one axis. Pixels that are `dilation` apart belong together: each of so many phases has tiles
// of its own.
std::vector<int64_t> tile_starts(int64_t size, int64_t dilation) {
  std::vector<int64_t> starts;
  for (int64_t phase = 0; phase < std::min(dilation, size); ++phase) {
    for (int64_t start = phase; start < size; start += kTileOutputs * dilation) {
      starts.push_back(start);
    }
  }
  return starts;
}

// What all tiles share.
struct Convolution {
  int64_t height, width, channels, outputs, dilation;
  const float* features;
  const float* bias;
  Activation activation;
  float* output;
  std::vector<Tile> tiles;
};

// Of tiles [begin, end), output channels [first, first + count): panels are their kernels.
struct Slice {
  int64_t begin, end, first, count;
  const float* panels;
  int64_t panel_plane;
};

// One thread's part of the tiles. Memory is allocated once for all parts.
class Worker {
 public:
  explicit Worker(const Convolution& convolution)
      : convolution_(convolution),
        zeros_(convolution.channels, 0.0f),
        value_plane_(padded_plane(kMostTiles * convolution.channels)),
        values_(kPlaces * value_plane_, 0.0f) {}

  void run(const Slice& slice) {
    const int64_t num_tiles = slice.end - slice.begin;
    // What the rows behind the last tile hold is multiplied for nothing.
    const int64_t num_rows = round_up(num_tiles, kTilesTogether);
    const int64_t sum_step = round_up(slice.count, kPanel);
    const int64_t sum_plane = padded_plane(num_rows * sum_step);
    sums_.resize(std::max<size_t>(sums_.size(), kPlaces * sum_plane));
    for (int64_t i = 0; i < num_tiles && slice.begin != first_read_; ++i) {
      read(convolution_.tiles[slice.begin + i], values_.data() + i * convolution_.channels);
    }
    first_read_ = slice.begin;
    const int64_t channels = convolution_.channels;
    for (int64_t place = 0; place < kPlaces; ++place) {
      for (int64_t k = 0; k < slice.count; k += kPanel) {
        multiply_panel(values_.data() + place * value_plane_, num_rows, channels,
                       slice.panels + place * slice.panel_plane + k * channels, sum_step,
                       sums_.data() + place * sum_plane + k);
      }
    }
    dropped_.resize(std::max<size_t>(dropped_.size(), slice.count));
    for (int64_t i = 0; i < num_tiles; ++i) {
      write(convolution_.tiles[slice.begin + i], slice, sums_.data() + i * sum_step, sum_plane);
    }
  }

 private:
  void read(const Tile& tile, float* values) const {
    const auto& c = convolution_;
    const float* pixels[kPlaces];
    for (int i = 0; i < kTileInputs; ++i) {
      const int64_t y = tile.y + (i - 1) * c.dilation;
      for (int j = 0; j < kTileInputs; ++j) {
        const int64_t x = tile.x + (j - 1) * c.dilation;
        const bool is_inside = y >= 0 && y < c.height && x >= 0 && x < c.width;
        pixels[i * kTileInputs + j] =
            is_inside ? c.features + ((tile.image * c.height + y) * c.width + x) * c.channels
                      : zeros_.data();
      }
    }
    transform_tile(pixels, c.channels, value_plane_, values);
  }

  void write(const Tile& tile, const Slice& slice, const float* sums, int64_t sum_plane) {
    const auto& c = convolution_;
    float* pixels[kTileOutputs * kTileOutputs];
    for (int i = 0; i < kTileOutputs; ++i) {
      const int64_t y = tile.y + i * c.dilation;
      for (int j = 0; j < kTileOutputs; ++j) {
        const int64_t x = tile.x + j * c.dilation;
        const int64_t pixel = (tile.image * c.height + y) * c.width + x;
        pixels[i * kTileOutputs + j] = y < c.height && x < c.width
                                           ? c.output + pixel * c.outputs + slice.first
                                           : dropped_.data();
      }
    }
    finish_tile(sums, sum_plane, slice.count, c.bias + slice.first, c.activation, pixels);
  }

  const Convolution& convolution_;
  std::vector<float> zeros_, dropped_;
  int64_t value_plane_;
  // Values are those of the tiles from this one on.
  int64_t first_read_ = -1;
  std::vector<float> values_, sums_;
};

void convolve(const Convolution& c, const float* weight) {
  // So many output channels at a time that their kernels are not too large.
  const int64_t group = std::max(kMostKernels / (kPlaces * c.channels) / kPanel * kPanel, kPanel);
  const int64_t num_tiles = static_cast<int64_t>(c.tiles.size());
  const int64_t num_threads = at::get_num_threads();
  // Equal parts, a whole number for each thread.
  const int64_t num_parts = round_up((num_tiles + kMostTiles - 1) / kMostTiles, num_threads);
  const bool is_kept = kPlaces * num_tiles * c.channels <= kMostValues;
  std::vector<std::unique_ptr<Worker>> workers(is_kept ? num_parts : num_threads);
  at::Tensor panels;
  for (int64_t first = 0; first < c.outputs; first += group) {
    const int64_t count = std::min(group, c.outputs - first);
    const int64_t num_panels = (count + kPanel - 1) / kPanel;
    const int64_t panel_plane = padded_plane(num_panels * kPanel * c.channels);
    if (!panels.defined()) {
      // The first group is the largest.
      panels = at::empty({kPlaces * panel_plane}, at::kFloat);
    }
    float* const kernels = panels.mutable_data_ptr<float>();
    at::parallel_for(0, num_panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        transform_kernels(weight, c.channels, c.outputs, first + panel * kPanel, panel_plane,
                          kernels + panel * kPanel * c.channels);
      }
    });
    at::parallel_for(0, num_parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t from = num_tiles * part / num_parts;
        const int64_t to = num_tiles * (part + 1) / num_parts;
        if (from < to) {
          auto& worker = workers[is_kept ? part : at::get_thread_num()];
          if (!worker) {
            worker = std::make_unique<Worker>(c);
          }
          worker->run({from, to, first, count, kernels, panel_plane});
        }
      }
    });
  }
}

at::Tensor winograd_convolution_cpu(const at::Tensor& features, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias, int64_t dilation,
                                    c10::string_view activation) {
  TORCH_CHECK(features.dim() == 4 && features.size(1) > 0 && features.scalar_type() == at::kFloat,
              kName, ": features must be (N, C, h, w) of float32, at least a channel, got ",
              features.sizes(), " of ", features.dtype());
  const int64_t channels = features.size(1);
  TORCH_CHECK(weight.dim() == 4 && weight.size(0) > 0 && weight.size(1) == channels &&
                  weight.size(2) == 3 && weight.size(3) == 3 && weight.scalar_type() == at::kFloat,
              kName, ": weight must be (K, ", channels, ", 3, 3) of float32, got ", weight.sizes(),
              " of ", weight.dtype());
  const int64_t outputs = weight.size(0);
  TORCH_CHECK(!bias.has_value() || (bias->dim() == 1 && bias->size(0) == outputs &&
                                    bias->scalar_type() == at::kFloat),
              kName, ": bias must be (", outputs, ") of float32, got ", bias->sizes(), " of ",
              bias->dtype());
  TORCH_CHECK(dilation >= 1, kName, ": dilation must be at least 1, got ", dilation);
  const at::Tensor source = features.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor taps = weight.permute({2, 3, 1, 0}).contiguous();
  const at::Tensor offsets =
      bias.has_value() ? bias->contiguous() : at::zeros({outputs}, weight.options());
  at::Tensor output = at::empty({features.size(0), outputs, features.size(2), features.size(3)},
                                features.options(), at::MemoryFormat::ChannelsLast);
  if (output.numel() == 0) {
    return output;
  }
  Convolution c{features.size(2),
                features.size(3),
                channels,
                outputs,
                dilation,
                source.const_data_ptr<float>(),
                offsets.const_data_ptr<float>(),
                activation_of(kName, activation),
                output.mutable_data_ptr<float>(),
                {}};
  const auto rows = tile_starts(c.height, dilation), columns = tile_starts(c.width, dilation);
  for (int64_t image = 0; image < features.size(0); ++image) {
    for (const int64_t y : rows) {
      for (const int64_t x : columns) {
        c.tiles.push_back({image, y, x});
      }
    }
  }
  convolve(c, taps.const_data_ptr<float>());
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("winograd_convolution", &winograd_convolution_cpu);
}

}  // namespace deeplab2_d2
