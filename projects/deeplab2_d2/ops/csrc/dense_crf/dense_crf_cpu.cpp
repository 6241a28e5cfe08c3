#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "crf_rows.h"
#include "dense_crf.h"
#include "lattice.h"

namespace deeplab2_d2 {
namespace {

constexpr int64_t kGrain = 1 << 10;
// Pixels that are transposed at a time.
constexpr int64_t kTile = 64;

// A Gaussian kernel of the CRF, weighted and normalised, over its lattice.
template <typename scalar_t>
class Filter {
 public:
  Filter(Lattice lattice, double weight, bool is_symmetric, int64_t width)
      : lattice_(std::move(lattice)) {
    make_factors(weight, is_symmetric);
    make_tables(width);
  }

  // Before the pixels of a band: fetches what they read into `scratch`, unless it is the first
  // round, and clears what they add to, unless it is the last.
  PixelFilter<scalar_t> open_band(int64_t band, bool is_first, bool is_last,
                                  std::vector<scalar_t>& scratch) {
    const int64_t begin = lattice_.band_starts[band], end = lattice_.band_starts[band + 1];
    scratch.resize(std::max<size_t>(scratch.size(), (end - begin) * width_));
    for (int64_t local = begin; local < end && !is_first; ++local) {
      std::copy_n(values_.get() + lattice_.local_to_row[local] * width_, width_,
                  scratch.data() + (local - begin) * width_);
    }
    scalar_t* sums = local_sums_.get() + begin * width_;
    if (!is_last) {
      std::fill_n(sums, (end - begin) * width_, scalar_t(0));
    }
    return {lattice_.corners,
            lattice_.vertices.data(),
            lattice_.shares.data(),
            slice_factors_.data(),
            splat_factors_.empty() ? nullptr : splat_factors_.data(),
            is_first ? nullptr : scratch.data(),
            is_last ? nullptr : sums};
  }

  // Once the pixels of all bands have added.
  void run() {
    const int64_t num_rows = lattice_.num_rows;
    at::parallel_for(1, num_rows, kGrain, [&](int64_t begin, int64_t end) {
      sum_rows(local_sums_.get(), width_, lattice_.row_starts.data(), lattice_.row_to_local.data(),
               begin, end, values_.get());
    });
    for (int64_t direction = 0; direction < lattice_.corners; ++direction) {
      const int32_t* neighbors = lattice_.neighbors.data() + direction * num_rows * 2;
      at::parallel_for(1, num_rows, kGrain, [&](int64_t begin, int64_t end) {
        blur_rows(values_.get(), width_, neighbors, begin, end, blurred_.get());
      });
      values_.swap(blurred_);
    }
  }

 private:
  void make_tables(int64_t width) {
    width_ = width;
    for (auto* table : {&values_, &blurred_}) {
      table->reset(new scalar_t[lattice_.num_rows * width]);
      std::fill_n(table->get(), width, scalar_t(0));
    }
    local_sums_.reset(new scalar_t[lattice_.num_locals * width]);
  }

  // Calls visit(place in `vertices`, local row), a band a thread.
  template <typename Visit>
  void for_each_corner(const Visit& visit) const {
    const int64_t bands = num_bands(lattice_.num_pixels);
    at::parallel_for(0, bands, 1, [&](int64_t first, int64_t last) {
      const int64_t begin = first * kBandPixels * lattice_.corners;
      const int64_t end = std::min(last * kBandPixels, lattice_.num_pixels) * lattice_.corners;
      for (int64_t corner = begin; corner < end; ++corner) {
        const int64_t band = corner / (kBandPixels * lattice_.corners);
        visit(corner, lattice_.band_starts[band] + lattice_.vertices[corner]);
      }
    });
  }

  // From what the kernel gives of ones, in the first lane of its tables.
  void make_factors(double weight, bool is_symmetric) {
    make_tables(kLanes);
    std::fill_n(local_sums_.get(), lattice_.num_locals * kLanes, scalar_t(0));
    for_each_corner([&](int64_t corner, int64_t local) {
      local_sums_[local * kLanes] += lattice_.shares[corner];
    });
    run();
    slice_factors_.assign(lattice_.num_pixels, scalar_t(0));
    for_each_corner([&](int64_t corner, int64_t local) {
      slice_factors_[corner / lattice_.corners] +=
          lattice_.shares[corner] * values_[lattice_.local_to_row[local] * kLanes];
    });
    for (scalar_t& factor : slice_factors_) {
      factor = 1 / (is_symmetric ? std::sqrt(factor) : factor);
    }
    if (is_symmetric) {
      splat_factors_ = slice_factors_;
    }
    for (scalar_t& factor : slice_factors_) {
      factor *= static_cast<scalar_t>(weight);
    }
  }

  Lattice lattice_;
  std::vector<scalar_t> slice_factors_, splat_factors_;  // (pixels)
  std::unique_ptr<scalar_t[]> values_, blurred_;         // (rows, width)
  std::unique_ptr<scalar_t[]> local_sums_;               // (locals, width)
  int64_t width_ = 0;
};

// Positions (x, y) over their standard deviation, then what `colors` says, of every pixel.
std::vector<float> make_points(const at::Tensor& image, double position_theta, double color_theta) {
  const int64_t height = image.size(1), width = image.size(2), num_pixels = height * width;
  const bool has_colors = color_theta > 0;
  const int64_t num_features = has_colors ? 5 : 2;
  std::vector<float> points(num_pixels * num_features);
  const float* colors = image.const_data_ptr<float>();
  at::parallel_for(0, height, 16, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin * width; pixel < end * width; ++pixel) {
      float* point = points.data() + pixel * num_features;
      point[0] = static_cast<float>((pixel % width) / position_theta);
      point[1] = static_cast<float>((pixel / width) / position_theta);
      for (int64_t c = 0; has_colors && c < 3; ++c) {
        const float color = colors[c * num_pixels + pixel];
        TORCH_CHECK(std::isfinite(color), "dense_crf: image must be finite, got ", color);
        point[2 + c] = static_cast<float>(color / color_theta);
      }
    }
  });
  return points;
}

// (classes, pixels) as (pixels, width), padded.
template <typename scalar_t>
std::unique_ptr<scalar_t[]> to_rows(const scalar_t* logits, int64_t num_classes, int64_t num_pixels,
                                    int64_t width) {
  constexpr scalar_t kPadding = std::numeric_limits<scalar_t>::lowest();
  std::unique_ptr<scalar_t[]> rows(new scalar_t[num_pixels * width]);
  at::parallel_for(0, num_pixels, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t start = begin; start < end; start += kTile) {
      const int64_t stop = std::min(start + kTile, end);
      scalar_t sum = 0;
      for (int64_t c = 0; c < width; ++c) {
        for (int64_t pixel = start; pixel < stop; ++pixel) {
          const scalar_t value = c < num_classes ? logits[c * num_pixels + pixel] : kPadding;
          rows[pixel * width + c] = value;
          // 0, or NaN of what is not finite.
          sum += value - value;
        }
      }
      TORCH_CHECK(sum == 0, "dense_crf: logits must be finite, got NaN or infinity");
    }
  });
  return rows;
}

// One round over all pixels: marginals from the filtered ones before, given to the filters, or, in
// the last round, written to `out` (classes, pixels).
template <typename scalar_t>
void update(const scalar_t* scores, int64_t num_classes, int64_t num_pixels, int64_t width,
            std::vector<Filter<scalar_t>>& filters, bool is_first, bool is_last, scalar_t* out) {
  at::parallel_for(0, num_bands(num_pixels), 1, [&](int64_t first, int64_t last) {
    std::vector<scalar_t> row(width), rows(is_last ? kBandPixels * width : 0);
    std::vector<PixelFilter<scalar_t>> parts(filters.size());
    std::vector<std::vector<scalar_t>> scratch(filters.size());
    for (int64_t band = first; band < last; ++band) {
      for (size_t i = 0; i < filters.size(); ++i) {
        parts[i] = filters[i].open_band(band, is_first, is_last, scratch[i]);
      }
      const int64_t begin = band * kBandPixels, end = std::min(begin + kBandPixels, num_pixels);
      update_pixels(scores, width, parts.data(), parts.size(), begin, end, row.data(),
                    is_last ? rows.data() : nullptr);
      for (int64_t start = begin; is_last && start < end; start += kTile) {
        const int64_t stop = std::min(start + kTile, end);
        for (int64_t c = 0; c < num_classes; ++c) {
          for (int64_t pixel = start; pixel < stop; ++pixel) {
            out[c * num_pixels + pixel] = rows[(pixel - begin) * width + c];
          }
        }
      }
    }
  });
}

template <typename scalar_t>
void infer(const at::Tensor& logits, const at::Tensor& image, int64_t num_iterations,
           at::ArrayRef<double> weights, at::ArrayRef<double> thetas, bool is_symmetric,
           scalar_t* out) {
  const int64_t num_classes = logits.size(0), num_pixels = logits.size(1) * logits.size(2);
  const int64_t width = (num_classes + kLanes - 1) / kLanes * kLanes;
  const auto scores = to_rows(logits.const_data_ptr<scalar_t>(), num_classes, num_pixels, width);
  std::vector<Filter<scalar_t>> filters;
  if (weights[0] > 0 && num_iterations > 0) {
    const std::vector<float> points = make_points(image, thetas[0], thetas[1]);
    filters.emplace_back(build_lattice(points.data(), num_pixels, 5), weights[0], is_symmetric,
                         width);
  }
  if (weights[1] > 0 && num_iterations > 0) {
    const std::vector<float> points = make_points(image, thetas[2], 0);
    filters.emplace_back(build_lattice(points.data(), num_pixels, 2), weights[1], is_symmetric,
                         width);
  }
  for (int64_t iteration = 0; iteration <= num_iterations; ++iteration) {
    const bool is_last = iteration == num_iterations;
    update(scores.get(), num_classes, num_pixels, width, filters, iteration == 0, is_last, out);
    for (Filter<scalar_t>& filter : filters) {
      if (!is_last) {
        filter.run();
      }
    }
  }
}

at::Tensor dense_crf_cpu(const at::Tensor& logits, const at::Tensor& image, int64_t num_iterations,
                         at::ArrayRef<double> weights, at::ArrayRef<double> thetas,
                         std::string_view normalization) {
  check_dense_crf(logits, image, num_iterations, weights, thetas, normalization);
  const at::Tensor scores = logits.contiguous();
  const at::Tensor colors = image.to(at::kFloat).contiguous();
  at::Tensor marginals = at::empty(scores.sizes(), scores.options());
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "dense_crf", [&] {
    infer(scores, colors, num_iterations, weights, thetas, normalization == "symmetric",
          marginals.mutable_data_ptr<scalar_t>());
  });
  return marginals;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("dense_crf", &dense_crf_cpu); }

}  // namespace deeplab2_d2
