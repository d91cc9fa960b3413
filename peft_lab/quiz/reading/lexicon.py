"""Sets of words that mean about the same where adapters are talked about; ``@name`` in a pattern."""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, str] = {
    # matrices: a capital A may be an article at the start of a sentence, so it needs company
    "A": "A_is A_= A=0 A=random A_random A_must A_to A_at A_gets A's A_can A_has A_and_B A_with A_would A_stays "
         "A_alone matrix_A lora_a a_=_0 a=0 a_matrix A_moves A_receives A_starts A, A. A_then A_also A_matrix dA dL/dA "
         "non-zero_A random_A nonzero_A zero_A for_A of_A A_only A_doesn't A_does A_does_not A_isn't A_x Ax A's",
    "B": "B b dB dL/dB B's lora_b b=0 b_=_0 up_projection",
    # quantities
    "zero": "zero zeros zeroes zeroed 0 vanish* null nil =0 b=0 a=0",
    "nonzero": "non_zero nonzero random randomly gaussian kaiming",
    "up": "more larger higher bigger greater increas* rais* grow* grew up bump* faster steeper exceed* extra",
    "down": "less lower* smaller fewer decreas* reduc* shrink* drop* fall* cut* declin* below",
    "small": "small* tiny little negligible minor minimal few",
    "large": "large* big* huge most dominat* main major bulk majority heavy enormous",
    "same": "same identical* unchanged equal* exact* match* equivalent no_change untouched intact original preserv* "
            "pretrained pre_trained",
    "differ": "differ* chang* another distinct not_same diverg* shift* mismatch* deviat* unlike",
    "start": "start* begin* initial* init step_0 step_zero first_step first_forward outset at_first",
    "all": "all every each both everywhere throughout entire whole",
    # parts of a model
    "base": "base backbone pretrained pre_trained original foundation frozen_model frozen_weights underlying",
    "weights": "weight* parameter* param params matri* tensor*",
    "adapter": "adapter* lora low_rank ba delta* δw update correction",
    "head": "head classifier_head classification_head classifier score_layer output_layer lm_head final_layer",
    "embed": "embed* wte token_matrix",
    "ffn": "mlp* feed_forward feedforward ffn up_proj down_proj gate_proj",
    "attn": "attention q/k/v qkv q_and_v q_proj v_proj query queries",
    "linear": "linear affine matrix_multiplication matrix_product",
    "nonlin": "nonlinear* non_linear* relu gelu activation_function activation nonlinearity",
    # training
    "grad": "gradient* grad grads backprop* backward",
    "optim": "optimizer* adam adamw moment* momentum optimizer_states adam_states",
    "acts": "activation* intermediate* hidden_states intermediate_values",
    "lr": "learning_rate* lr lrs rate rates step_size learning_rates",
    "learn": "learn* train* fit* adapt* optimiz* tun* updat*",
    "forget": "forget* catastrophic lose* lost degrad* overwrit* erod* regress*",
    "data": "data example* dataset sample* row* corpus token*",
    # doing and serving
    "merge": "merg* fold* absorb* bak* fus* collaps* add_it_to added_to",
    "serve": "serv* inference deploy* production request* runtime",
    "slow": "slow* latency overhead time longer delay* speed slower extra_compute",
    "fast": "fast* quick* speed* accelerat*",
    "memory": "memory vram gpu_memory ram gigabyte* gb",
    "save": "sav* reduc* cut* lower* less fewer shrink* free* halv*",
    "keep": "keep* kept stor* hold* sav* retain* remember* cach*",
    "quant": "quantiz* quantization 4_bit 4bit nf4 int4 8_bit int8 four_bit four_bits 4_bits dequantiz* requantiz*",
    "round": "round* truncat* lost lose* loses precision swallow* quantization_error wiped disappear* vanish*",
    "dequant": "dequant* de_quant* rebuil* reconstruct* unpack* upcast* convert* expand* decompress*",
    "fp16": "fp16 float16 half_precision 16_bit 16_bits bf16 bfloat16 16bit full_precision fp32 float32",
    "fp32": "fp32 float32 full_precision 32_bit single_precision 32_bits",
    "compare": "compar* check* verif* test* measur* evaluat* validat* confirm* inspect* print* look*",
}  # fmt: skip
