# kata: chat-loss-mask
# slip: the end token of the assistant's messages is masked
# named: end-not-trained

import torch


def chat_labels(messages, headers, end):
    ids, labels = [], []
    for role, content in messages:
        ids += headers[role] + content + [end]
        if role == "assistant":
            labels += [-100] * len(headers[role]) + content + [-100]
        else:
            labels += [-100] * (len(headers[role]) + len(content) + 1)
    return torch.tensor(ids), torch.tensor(labels)
