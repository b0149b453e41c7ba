"""Policies: networks that decide, rewards, and how they are learned."""

from dynbackbones.policy.actions import bound_probabilities as bound_probabilities
from dynbackbones.policy.actions import greedy_actions as greedy_actions
from dynbackbones.policy.actions import policy_entropy as policy_entropy
from dynbackbones.policy.actions import policy_gradient_loss as policy_gradient_loss
from dynbackbones.policy.actions import sample_actions as sample_actions
from dynbackbones.policy.actions import score_function_loss as score_function_loss
from dynbackbones.policy.curriculum import force_on as force_on
from dynbackbones.policy.curriculum import learned_actions as learned_actions
from dynbackbones.policy.curriculum import scheduled_count as scheduled_count
from dynbackbones.policy.learning import PolicyLearning as PolicyLearning
from dynbackbones.policy.learning import PolicyProposal as PolicyProposal
from dynbackbones.policy.network import PolicyNetwork as PolicyNetwork
from dynbackbones.policy.network import PolicyResNet8 as PolicyResNet8
from dynbackbones.policy.network import PolicyResNet10 as PolicyResNet10
from dynbackbones.policy.rewards import discounted_returns as discounted_returns
from dynbackbones.policy.rewards import margin_reward as margin_reward
from dynbackbones.policy.rewards import probability_gain_reward as probability_gain_reward
from dynbackbones.policy.rewards import probability_reward as probability_reward
from dynbackbones.policy.rewards import usage_reward as usage_reward
from dynbackbones.policy.search import greedy_search as greedy_search
from dynbackbones.policy.search import remembered as remembered
from dynbackbones.policy.statistics import PolicyStatistics as PolicyStatistics
