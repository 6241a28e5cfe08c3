// Work division: one thread a pixel; it compares all centers of its image, which stay in the cache.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "grouping.h"
#include "grouping_device.cuh"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;

__global__ void group_kernel(const float* centers, const int32_t* num_centers, int32_t num_rows,
                             const float* offsets, int32_t height, int32_t width, int32_t* result) {
  const int64_t area = static_cast<int64_t>(height) * width;
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= area) {
    return;
  }
  const int64_t image = blockIdx.y;
  const float* offset = offsets + image * 2 * area;
  const float target_y = static_cast<float>(static_cast<int32_t>(pixel / width)) + offset[pixel];
  const float target_x =
      static_cast<float>(static_cast<int32_t>(pixel % width)) + offset[area + pixel];
  result[image * area + pixel] =
      nearest_center(centers + image * num_rows * 2, max(0, min(num_centers[image], num_rows)),
                     target_y, target_x);
}

at::Tensor group_pixels_cuda(const at::Tensor& centers, const at::Tensor& num_centers,
                             const at::Tensor& offsets) {
  TORCH_CHECK(offsets.dim() == 4 && offsets.size(1) == 2,
              "group_pixels: offsets must be (N, 2, H, W), got ", offsets.sizes());
  TORCH_CHECK(offsets.is_floating_point(), "group_pixels: offsets must be float, got ",
              offsets.dtype());
  check_centers("group_pixels", centers, num_centers, offsets.size(0));
  TORCH_CHECK(offsets.device() == centers.device(), "group_pixels: offsets must be on ",
              centers.device(), ", got ", offsets.device());
  const int64_t num_images = offsets.size(0), height = offsets.size(2), width = offsets.size(3);
  TORCH_CHECK(num_images < 65536 && height * width < (int64_t(1) << 31),
              "group_pixels: at most 65535 images of 2**31 - 1 pixels, got ", offsets.sizes());
  const c10::cuda::CUDAGuard guard(offsets.device());
  at::Tensor result = at::empty({num_images, height, width}, offsets.options().dtype(at::kInt));
  if (result.numel() == 0) {
    return result;
  }
  const at::Tensor maps = offsets.to(at::kFloat).contiguous();
  const at::Tensor points = centers.contiguous(), counts = num_centers.contiguous();
  const dim3 blocks((height * width + kThreads - 1) / kThreads, num_images);
  group_kernel<<<blocks, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      points.const_data_ptr<float>(), counts.const_data_ptr<int32_t>(), centers.size(1),
      maps.const_data_ptr<float>(), height, width, result.mutable_data_ptr<int32_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("group_pixels", &group_pixels_cuda); }

}  // namespace deeplab2_d2
