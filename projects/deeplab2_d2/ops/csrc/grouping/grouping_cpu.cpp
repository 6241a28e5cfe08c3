#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../dispatch.h"
#include "grouping.h"

namespace deeplab2_d2 {

CenterList::CenterList(const float* centers, int64_t rows, int64_t count) {
  count = std::min(std::max<int64_t>(count, 0), rows);
  for (int64_t k = 0; k < count; ++k) {
    y.push_back(centers[2 * k]);
    x.push_back(centers[2 * k + 1]);
  }
}

GroupingScratch::GroupingScratch(int64_t num_centers)
    : candidates(num_centers), lower_bounds(num_centers) {}

namespace {

constexpr int64_t kPixelsAtOnce = 64;

// Where the pixels of a row's part point to, and the smallest rectangle around those that count.
struct Targets {
  float y[kPixelsAtOnce];
  float x[kPixelsAtOnce];
  float min_y, max_y, min_x, max_x;
};

DEEPLAB2_D2_CLONES
void find_targets(float y, float first_x, const float* offset_y, const float* offset_x,
                  int64_t count, float* target_y, float* target_x) {
  for (int64_t i = 0; i < count; ++i) {
    target_y[i] = y + offset_y[i];
    target_x[i] = (first_x + static_cast<float>(i)) + offset_x[i];
  }
}

// Squared distances from each center to the nearest point of the rectangle, and the smallest of
// those to its farthest point: no center that is farther than that can be nearest.
DEEPLAB2_D2_CLONES
float bound_distances(const float* center_y, const float* center_x, int64_t num_centers,
                      float min_y, float max_y, float min_x, float max_x, float* lower_bounds) {
  float upper_bound = std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < num_centers; ++k) {
    const float above = min_y - center_y[k], below = center_y[k] - max_y;
    const float left = min_x - center_x[k], right = center_x[k] - max_x;
    float near_y = above > below ? above : below;
    float near_x = left > right ? left : right;
    near_y = near_y > 0.0f ? near_y : 0.0f;
    near_x = near_x > 0.0f ? near_x : 0.0f;
    lower_bounds[k] = near_y * near_y + near_x * near_x;
    const float far_y = above < below ? above : below;
    const float far_x = left < right ? left : right;
    const float far = far_y * far_y + far_x * far_x;
    upper_bound = far < upper_bound ? far : upper_bound;
  }
  return upper_bound;
}

DEEPLAB2_D2_CLONES
void compare_with_center(float center_y, float center_x, int32_t id, const float* target_y,
                         const float* target_x, int64_t count, float* distance, int32_t* nearest) {
  for (int64_t i = 0; i < count; ++i) {
    const float delta_y = center_y - target_y[i];
    const float delta_x = center_x - target_x[i];
    const float squared = delta_y * delta_y + delta_x * delta_x;
    const bool is_nearer = squared < distance[i];
    distance[i] = is_nearer ? squared : distance[i];
    nearest[i] = is_nearer ? id : nearest[i];
  }
}

// Sets the rectangle; false if no pixel counts. A NaN leaves an empty or wrong rectangle, so
// `is_finite` tells whether it can be used.
bool bound_targets(Targets& targets, const uint8_t* wanted, int64_t count, bool& is_finite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  targets.min_y = targets.min_x = kInfinity;
  targets.max_y = targets.max_x = -kInfinity;
  bool any = false;
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    if (wanted != nullptr && !wanted[i]) {
      continue;
    }
    any = true;
    targets.min_y = std::min(targets.min_y, targets.y[i]);
    targets.max_y = std::max(targets.max_y, targets.y[i]);
    targets.min_x = std::min(targets.min_x, targets.x[i]);
    targets.max_x = std::max(targets.max_x, targets.x[i]);
    sum += targets.y[i] * 0.0f + targets.x[i] * 0.0f;
  }
  is_finite = sum == 0.0f;
  return any;
}

// Centers that may be nearest to a pixel of the rectangle, in order; their number.
int64_t choose_candidates(const CenterList& centers, const Targets& targets, bool is_finite,
                          GroupingScratch& scratch) {
  // Bounds are as exact as distances: a few roundings of 2**-24 each.
  constexpr float kSlack = 1.0f + 1e-5f;
  const float upper_bound =
      bound_distances(centers.y.data(), centers.x.data(), centers.size(), targets.min_y,
                      targets.max_y, targets.min_x, targets.max_x, scratch.lower_bounds.data());
  int64_t num_candidates = 0;
  for (int64_t k = 0; k < centers.size(); ++k) {
    if (!is_finite || !(scratch.lower_bounds[k] > upper_bound * kSlack)) {
      scratch.candidates[num_candidates++] = static_cast<int32_t>(k);
    }
  }
  return num_candidates;
}

}  // namespace

void group_row(const CenterList& centers, int64_t y, const float* offset_y, const float* offset_x,
               const uint8_t* wanted, int64_t width, GroupingScratch& scratch, int32_t* nearest) {
  Targets targets;
  float distance[kPixelsAtOnce];
  std::fill_n(nearest, width, 0);
  for (int64_t first = 0; first < width && centers.size() > 0; first += kPixelsAtOnce) {
    const int64_t count = std::min(kPixelsAtOnce, width - first);
    find_targets(static_cast<float>(y), static_cast<float>(first), offset_y + first,
                 offset_x + first, count, targets.y, targets.x);
    bool is_finite = true;
    if (!bound_targets(targets, wanted == nullptr ? nullptr : wanted + first, count, is_finite)) {
      continue;
    }
    const int64_t num_candidates = choose_candidates(centers, targets, is_finite, scratch);
    std::fill_n(distance, count, std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < num_candidates; ++i) {
      const int32_t k = scratch.candidates[i];
      compare_with_center(centers.y[k], centers.x[k], k + 1, targets.y, targets.x, count, distance,
                          nearest + first);
    }
  }
}

namespace {

at::Tensor group_pixels_cpu(const at::Tensor& centers, const at::Tensor& num_centers,
                            const at::Tensor& offsets) {
  TORCH_CHECK(offsets.dim() == 4 && offsets.size(1) == 2,
              "group_pixels: offsets must be (N, 2, H, W), got ", offsets.sizes());
  TORCH_CHECK(offsets.is_floating_point(), "group_pixels: offsets must be float, got ",
              offsets.dtype());
  check_centers("group_pixels", centers, num_centers, offsets.size(0));
  const int64_t num_images = offsets.size(0), height = offsets.size(2), width = offsets.size(3);
  const int64_t num_rows = centers.size(1);
  const at::Tensor maps = offsets.to(at::kFloat).contiguous();
  const at::Tensor center_rows = centers.contiguous();
  const at::Tensor counts = num_centers.contiguous();
  at::Tensor result = at::empty({num_images, height, width}, maps.options().dtype(at::kInt));
  for (int64_t image = 0; image < num_images; ++image) {
    const CenterList list(center_rows.const_data_ptr<float>() + image * num_rows * 2, num_rows,
                          counts.const_data_ptr<int32_t>()[image]);
    const float* offset_y = maps.const_data_ptr<float>() + image * 2 * height * width;
    const float* offset_x = offset_y + height * width;
    int32_t* nearest = result.mutable_data_ptr<int32_t>() + image * height * width;
    at::parallel_for(0, height, 8, [&](int64_t begin, int64_t end) {
      GroupingScratch scratch(list.size());
      for (int64_t y = begin; y < end; ++y) {
        group_row(list, y, offset_y + y * width, offset_x + y * width, nullptr, width, scratch,
                  nearest + y * width);
      }
    });
  }
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("group_pixels", &group_pixels_cpu); }

}  // namespace deeplab2_d2
