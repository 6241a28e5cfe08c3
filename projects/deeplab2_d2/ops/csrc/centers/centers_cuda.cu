// Work division: one thread a detection pixel writes the upsampled candidates; one thread a pixel
// then looks at its window and appends survivors (in any order) to a list of positions; one block
// an image chooses the best `top_k` of the list and ranks them by position. The order in which
// survivors are appended does not reach the result.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../resampling/resampling_device.cuh"
#include "centers.h"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;
constexpr int kSelectThreads = 1024;

__global__ void candidates_kernel(const float* heatmap, int32_t map_height, int32_t map_width,
                                  int32_t height, int32_t width, float scale_y, float scale_x,
                                  float threshold, float* candidates) {
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= static_cast<int64_t>(height) * width) {
    return;
  }
  const int64_t image = blockIdx.y;
  const float value =
      sample(heatmap + image * map_height * map_width, map_width,
             position_of(static_cast<int32_t>(pixel / width), scale_y, map_height),
             position_of(static_cast<int32_t>(pixel % width), scale_x, map_width), 1.0f);
  candidates[image * height * width + pixel] = value > threshold ? value : 0.0f;
}

__global__ void survivors_kernel(const float* candidates, int32_t height, int32_t width,
                                 int32_t nms_kernel, int32_t* survivors, int32_t* num_survivors) {
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t area = static_cast<int64_t>(height) * width;
  if (pixel >= area) {
    return;
  }
  const int64_t image = blockIdx.y;
  const float* values = candidates + image * area;
  const float value = values[pixel];
  if (!(value > 0.0f)) {
    return;
  }
  const int32_t y = static_cast<int32_t>(pixel / width), x = static_cast<int32_t>(pixel % width);
  const int32_t before = (nms_kernel - 1) / 2, after = nms_kernel / 2;
  for (int32_t v = max(y - before, 0); v <= min(y + after, height - 1); ++v) {
    for (int32_t u = max(x - before, 0); u <= min(x + after, width - 1); ++u) {
      if (values[static_cast<int64_t>(v) * width + u] > value) {
        return;
      }
    }
  }
  survivors[image * area + atomicAdd(&num_survivors[image], 1)] = static_cast<int32_t>(pixel);
}

// Larger is better: the score (positive, so that its bits are in order), then the lower position.
__device__ __forceinline__ uint64_t key_of(const float* values, int32_t position) {
  return (static_cast<uint64_t>(__float_as_uint(values[position])) << 32) |
         (0xFFFFFFFFu - static_cast<uint32_t>(position));
}

// The `wanted`-th largest key, bit by bit; keys are distinct.
__device__ uint64_t nth_largest_key(const float* values, const int32_t* survivors, int32_t count,
                                    int32_t wanted) {
  __shared__ int32_t num_larger;
  uint64_t prefix = 0;
  for (int bit = 63; bit >= 0; --bit) {
    if (threadIdx.x == 0) {
      num_larger = 0;
    }
    __syncthreads();
    const uint64_t trial = prefix | (uint64_t(1) << bit);
    int32_t own = 0;
    for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
      own += key_of(values, survivors[i]) >= trial;
    }
    if (own > 0) {
      atomicAdd(&num_larger, own);
    }
    __syncthreads();
    if (num_larger >= wanted) {
      prefix = trial;
    }
    __syncthreads();
  }
  return prefix;
}

__global__ void select_kernel(const float* candidates, int64_t area, int32_t width,
                              const int32_t* all_survivors, const int32_t* num_survivors,
                              int32_t top_k, int32_t* chosen, int32_t* centers, float* scores,
                              int32_t* counts) {
  const int64_t image = blockIdx.x;
  const float* values = candidates + image * area;
  const int32_t* survivors = all_survivors + image * area;
  int32_t* kept = chosen + image * top_k;
  const int32_t found = num_survivors[image];
  const int32_t count = min(found, top_k);
  const uint64_t smallest =
      found > top_k ? nth_largest_key(values, survivors, found, top_k) : uint64_t(0);
  __shared__ int32_t num_kept;
  if (threadIdx.x == 0) {
    num_kept = 0;
    counts[image] = count;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < found; i += blockDim.x) {
    if (key_of(values, survivors[i]) >= smallest) {
      kept[atomicAdd(&num_kept, 1)] = survivors[i];
    }
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
    int32_t rank = 0;
    for (int32_t j = 0; j < count; ++j) {
      rank += kept[j] < kept[i];
    }
    const int64_t row = image * top_k + rank;
    centers[2 * row] = kept[i] / width;
    centers[2 * row + 1] = kept[i] % width;
    scores[row] = values[kept[i]];
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> find_centers_cuda(
    const at::Tensor& heatmap, at::IntArrayRef size, at::ArrayRef<double> scale, double threshold,
    int64_t nms_kernel, int64_t top_k) {
  check_find_centers(heatmap, size, scale, nms_kernel);
  const c10::cuda::CUDAGuard guard(heatmap.device());
  const int64_t num_images = heatmap.size(0), area = size[0] * size[1];
  TORCH_CHECK(num_images < 65536, "find_centers: at most 65535 images, got ", num_images);
  const at::Tensor map = heatmap.to(at::kFloat).contiguous();
  const auto integers = map.options().dtype(at::kInt);
  at::Tensor candidates = at::empty({num_images, size[0], size[1]}, map.options());
  at::Tensor survivors = at::empty({num_images, area}, integers);
  at::Tensor num_survivors = at::zeros({num_images}, integers);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const dim3 blocks((area + kThreads - 1) / kThreads, num_images);
  if (num_images > 0) {
    candidates_kernel<<<blocks, kThreads, 0, stream>>>(
        map.const_data_ptr<float>(), map.size(1), map.size(2), size[0], size[1],
        static_cast<float>(scale[0]), static_cast<float>(scale[1]),
        static_cast<float>(std::max(threshold, 0.0)), candidates.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    survivors_kernel<<<blocks, kThreads, 0, stream>>>(
        candidates.const_data_ptr<float>(), size[0], size[1], nms_kernel,
        survivors.mutable_data_ptr<int32_t>(), num_survivors.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  if (top_k <= 0) {
    // Keeping all needs the largest count on the host: the one place that waits, as documented.
    top_k = num_images > 0 ? std::max<int64_t>(num_survivors.max().item<int32_t>(), 1) : 1;
  }
  at::Tensor chosen = at::empty({num_images, top_k}, integers);
  at::Tensor centers = at::zeros({num_images, top_k, 2}, integers);
  at::Tensor scores = at::zeros({num_images, top_k}, map.options());
  at::Tensor counts = at::zeros({num_images}, integers);
  if (num_images > 0) {
    select_kernel<<<num_images, kSelectThreads, 0, stream>>>(
        candidates.const_data_ptr<float>(), area, size[1], survivors.const_data_ptr<int32_t>(),
        num_survivors.const_data_ptr<int32_t>(), top_k, chosen.mutable_data_ptr<int32_t>(),
        centers.mutable_data_ptr<int32_t>(), scores.mutable_data_ptr<float>(),
        counts.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {centers, scores, counts};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("find_centers", &find_centers_cuda); }

}  // namespace deeplab2_d2
