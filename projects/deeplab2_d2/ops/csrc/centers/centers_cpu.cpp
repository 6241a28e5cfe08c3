#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "../dispatch.h"
#include "../resampling/resampling.h"
#include "centers.h"

namespace deeplab2_d2 {
namespace {

struct Center {
  int64_t position;  // y * width + x
  float score;
};

// values[x] = 0 where it is not above the threshold; whether any is left.
DEEPLAB2_D2_CLONES
bool threshold_row(float* values, int64_t width, float threshold) {
  int32_t any = 0;
  for (int64_t x = 0; x < width; ++x) {
    const bool is_above = values[x] > threshold;
    values[x] = is_above ? values[x] : 0.0f;
    any |= is_above;
  }
  return any != 0;
}

DEEPLAB2_D2_CLONES
void larger_of(const float* a, const float* b, int64_t count, float* __restrict__ out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = a[i] > b[i] ? a[i] : b[i];
  }
}

DEEPLAB2_D2_CLONES
void keep_larger(const float* __restrict__ other, int64_t count, float* __restrict__ values) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = other[i] > values[i] ? other[i] : values[i];
  }
}

// The pixels before and after one that its window reaches; no more than an axis of `length` has.
struct Window {
  Window(int64_t nms_kernel, int64_t length)
      : before(std::min((nms_kernel - 1) / 2, length)), after(std::min(nms_kernel / 2, length)) {}

  const int64_t before, after;
};

// Largest of a row's window around each pixel. Each pass doubles the part of it that is known.
class RowMaxima {
 public:
  RowMaxima(int64_t width, int64_t nms_kernel)
      : width_(width),
        window_(nms_kernel, width),
        known_(width + window_.before + window_.after, 0.0f),
        next_(known_.size()) {}

  void find(const float* values, float* maxima) {
    const int64_t length = window_.before + 1 + window_.after;
    int64_t count = static_cast<int64_t>(known_.size()), known = 1;
    // Candidates are positive: the padding never wins.
    std::fill(known_.begin(), known_.end(), 0.0f);
    std::copy_n(values, width_, known_.begin() + window_.before);
    for (; 2 * known <= length; known *= 2) {
      count -= known;
      larger_of(known_.data(), known_.data() + known, count, next_.data());
      std::swap(known_, next_);
    }
    larger_of(known_.data(), known_.data() + length - known, width_, maxima);
  }

 private:
  const int64_t width_;
  const Window window_;
  std::vector<float> known_, next_;
};

// Candidates: the upsampled heatmap where it is above the threshold, else 0.
class CandidateMap {
 public:
  CandidateMap(int64_t height, int64_t width)
      : height(height),
        width(width),
        values(height * width),
        row_maxima(height * width),
        row_is_empty(height) {}

  void fill_row(int64_t y, const float* heatmap, int64_t map_width,
                const AxisPositions<float>& rows, const AxisPositions<float>& columns,
                int64_t map_height, float threshold, RowMaxima& maxima,
                std::vector<float>& scratch) {
    const int64_t lower = rows.lower[y];
    const int64_t upper = std::min(lower + 1, map_height - 1);
    float* row = scratch.data();
    float* step = row + map_width;
    float* out = &values[y * width];
    if (rows.is_identity && columns.is_identity) {
      std::copy_n(heatmap + y * map_width, width, out);
    } else {
      blend_rows(heatmap + lower * map_width, heatmap + upper * map_width, rows.weight[y],
                 map_width, row);
      row_steps(row, map_width, step);
      expand_row(row, step, columns.lower.data(), columns.weight.data(), width, out);
    }
    row_is_empty[y] = !threshold_row(out, width, threshold);
    if (!row_is_empty[y]) {
      maxima.find(out, &row_maxima[y * width]);
    }
  }

  // Calls found(position, value) for the candidates of row y that are the largest of their window.
  template <typename found_t>
  void visit_largest(int64_t y, const Window& window, std::vector<float>& maxima,
                     const found_t& found) const {
    const float* row = &values[y * width];
    const float* of_row = &row_maxima[y * width];
    const auto is_largest = [&](int64_t x, float largest) {
      return row[x] > 0.0f && row[x] >= largest;
    };
    int64_t first = 0, last = width;
    while (first < last && !is_largest(first, of_row[first])) {
      ++first;
    }
    while (first < last && !is_largest(last - 1, of_row[last - 1])) {
      --last;
    }
    std::copy(of_row + first, of_row + last, maxima.begin() + first);
    const int64_t end = std::min(y + window.after + 1, height);
    for (int64_t v = std::max<int64_t>(y - window.before, 0); v < end && first < last; ++v) {
      if (!row_is_empty[v]) {
        keep_larger(&row_maxima[v * width] + first, last - first, maxima.data() + first);
      }
    }
    for (int64_t x = first; x < last; ++x) {
      if (is_largest(x, maxima[x])) {
        found(y * width + x, row[x]);
      }
    }
  }

  const int64_t height, width;
  std::vector<float> values, row_maxima;  // the maxima of rows that are not empty
  std::vector<uint8_t> row_is_empty;
};

// The rows of one image are worked on in blocks, whose centers are then joined in raster order.
constexpr int64_t kRowsPerBlock = 16;

std::vector<Center> find_image_centers(const float* heatmap, int64_t map_height, int64_t map_width,
                                       const AxisPositions<float>& rows,
                                       const AxisPositions<float>& columns, float threshold,
                                       int64_t nms_kernel) {
  const int64_t height = rows.lower.size();
  const int64_t width = columns.lower.size();
  CandidateMap candidates(height, width);
  at::parallel_for(0, height, kRowsPerBlock, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(2 * map_width);
    RowMaxima maxima(width, nms_kernel);
    for (int64_t y = begin; y < end; ++y) {
      candidates.fill_row(y, heatmap, map_width, rows, columns, map_height, threshold, maxima,
                          scratch);
    }
  });
  const int64_t num_blocks = (height + kRowsPerBlock - 1) / kRowsPerBlock;
  std::vector<std::vector<Center>> blocks(num_blocks);
  const Window window(nms_kernel, height);
  at::parallel_for(0, num_blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> maxima(width);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t last = std::min((block + 1) * kRowsPerBlock, height);
      for (int64_t y = block * kRowsPerBlock; y < last; ++y) {
        if (!candidates.row_is_empty[y]) {
          candidates.visit_largest(y, window, maxima, [&](int64_t position, float value) {
            blocks[block].push_back({position, value});
          });
        }
      }
    }
  });
  std::vector<Center> centers;
  for (const auto& block : blocks) {
    centers.insert(centers.end(), block.begin(), block.end());
  }
  return centers;
}

// The best `top_k`, of equal scores the first in raster order; the result is in raster order.
void keep_best(std::vector<Center>& centers, int64_t top_k) {
  if (static_cast<int64_t>(centers.size()) <= top_k) {
    return;
  }
  const auto is_better = [](const Center& a, const Center& b) {
    return a.score != b.score ? a.score > b.score : a.position < b.position;
  };
  std::nth_element(centers.begin(), centers.begin() + top_k - 1, centers.end(), is_better);
  centers.resize(top_k);
  std::sort(centers.begin(), centers.end(),
            [](const Center& a, const Center& b) { return a.position < b.position; });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> find_centers_cpu(const at::Tensor& heatmap,
                                                                at::IntArrayRef size,
                                                                at::ArrayRef<double> scale,
                                                                double threshold,
                                                                int64_t nms_kernel, int64_t top_k) {
  check_find_centers(heatmap, size, scale, nms_kernel);
  const at::Tensor map = heatmap.to(at::kFloat).contiguous();
  const int64_t num_images = map.size(0);
  const AxisPositions<float> rows(size[0], map.size(1), static_cast<float>(scale[0]));
  const AxisPositions<float> columns(size[1], map.size(2), static_cast<float>(scale[1]));
  std::vector<std::vector<Center>> found;
  int64_t largest_count = 1;
  for (int64_t image = 0; image < num_images; ++image) {
    found.push_back(find_image_centers(
        map.const_data_ptr<float>() + image * map.size(1) * map.size(2), map.size(1), map.size(2),
        rows, columns, static_cast<float>(std::max(threshold, 0.0)), nms_kernel));
    if (top_k > 0) {
      keep_best(found.back(), top_k);
    }
    largest_count = std::max<int64_t>(largest_count, found.back().size());
  }
  const int64_t num_rows = top_k > 0 ? top_k : largest_count;
  at::Tensor centers = at::zeros({num_images, num_rows, 2}, map.options().dtype(at::kInt));
  at::Tensor scores = at::zeros({num_images, num_rows}, map.options());
  at::Tensor counts = at::zeros({num_images}, map.options().dtype(at::kInt));
  for (int64_t image = 0; image < num_images; ++image) {
    int32_t* center = centers.mutable_data_ptr<int32_t>() + image * num_rows * 2;
    float* score = scores.mutable_data_ptr<float>() + image * num_rows;
    counts.mutable_data_ptr<int32_t>()[image] = static_cast<int32_t>(found[image].size());
    for (size_t k = 0; k < found[image].size(); ++k) {
      center[2 * k] = static_cast<int32_t>(found[image][k].position / size[1]);
      center[2 * k + 1] = static_cast<int32_t>(found[image][k].position % size[1]);
      score[k] = found[image][k].score;
    }
  }
  return {centers, scores, counts};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("find_centers", &find_centers_cpu); }

}  // namespace deeplab2_d2
