"""The selective scan of Mamba (Gu & Dao, https://arxiv.org/abs/2312.00752), with interchangeable backends.

Per channel and state, with Δ = softplus(delta + bias), x = Δ·u and the decay A_l = exp(Δ_l·a) ≤ 1,

    h_l = A_l·h_{l−1} + b_l·x_l,        y_l = Σ_n c_l·h_l + d·u_l.

With a bar for the gradient of a quantity, and g for that of h, the backward pass is a scan in reverse:

    g_l  = c_l·ȳ_l + A_{l+1}·g_{l+1}             q_l = g_l·A_l·h_{l−1}, the gradient of Δ_l·a
    b̄_l  = Σ_channels g_l·x_l                    ā   = Σ_l q_l·Δ_l
    c̄_l  = Σ_channels h_l·ȳ_l                    Δ̄_l = Σ_n q_l·a + u_l·x̄_l
    x̄_l  = Σ_n g_l·b_l                           ū_l = Δ_l·x̄_l + d·ȳ_l

`operator` chooses the backend: `chunked`, in plain PyTorch, `compiled` on the CPU or `mamba_kernel` on CUDA. `tokens`
is the compiled scan of tokens in several orders, which copies none of them.
"""
